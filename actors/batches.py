"""Batches: which images share a forward pass. A function of the shard's rows alone, whatever happened before.

Another batch size moves most images by a rounding step, while neighbours and position change nothing (measured). So
an image is always computed in a batch of the size that it had in the plain plan: filled up where others were left out.
"""

from collections.abc import Callable, Container, Sequence, Set
from itertools import groupby

from actors.records import Batch, ImageRequest


def plan_batches(
    requests: Sequence[ImageRequest],
    batch_size: int | Callable[[ImageRequest], int],
    alone: Container[str] = frozenset(),
    only: Set[str] | None = None,
    *,
    filled: bool = False,
) -> list[Batch]:
    """Batches of at most `batch_size`, which may be asked for one request of each kind; largest images first: if the
    device is too small, that shows at once. `filled` has the last of a kind be as large as the others.

    Images whose keys are in `alone` come before all others, each in a batch of its own: one that ends the process then
    costs the least. With `only`, other images are left out.
    """
    first: list[Batch] = []
    rest: list[Batch] = []
    for _, members in groupby(sorted(requests, key=_sameness), key=_sameness):
        group = list(members)
        most = batch_size if isinstance(batch_size, int) else batch_size(group[0])
        for start in range(0, len(group), most):
            chunk = group[start : start + most]
            size = most if filled else len(chunk)
            wanted = [request for request in chunk if only is None or request.key in only]
            first += [Batch((request,), size) for request in wanted if request.key in alone]
            together = tuple(request for request in wanted if request.key not in alone)
            if together:
                rest.append(Batch(together, size))
    return first + rest


def refill(requests: Sequence[ImageRequest], batch_size: int) -> list[Batch]:
    """Batches for images that were made in batches of this size, and are again, however few they are now."""
    return [Batch(batch.requests, batch_size) for batch in plan_batches(requests, batch_size)]


def halve(batch: Batch) -> tuple[Batch, Batch]:
    """The batch in two, each filled up to the size of the whole, so that no byte changes."""
    middle = len(batch.requests) // 2
    return Batch(batch.requests[:middle], batch.size), Batch(batch.requests[middle:], batch.size)


def fit(batch: Batch, room: int) -> list[Batch]:
    """The batch in pieces of at most `room` images: smaller for real, as the device has no more room."""
    pieces = [batch.requests[start : start + room] for start in range(0, len(batch.requests), room)]
    was_filled = len(batch.requests) < batch.size
    return [Batch(piece, min(room, batch.size) if was_filled else len(piece)) for piece in pieces]


def _sameness(request: ImageRequest) -> tuple[int, int, int, int, float, bool, float, int, bool]:
    """What the images of a batch must have in common.

    Whether there is a negative prompt is part of it: with none in the whole batch, pipelines such as SDXL take another
    way than with an empty one. So is whether there is a depth map, which a batch without has estimated; and how long
    prompts are, as they would have to be padded to the longest of their neighbours.
    """
    area = request.width * request.height
    return (
        -area,
        request.width,
        -request.chunks,
        request.num_inference_steps,
        request.guidance_scale,
        bool(request.negative_prompt),
        -1.0 if request.strength is None else request.strength,
        -1 if request.noise_level is None else request.noise_level,
        "depth_map" in request.input_files,
    )
