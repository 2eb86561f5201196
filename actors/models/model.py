"""ImageModel: weights in memory, a batch in, images out. Light: whoever only asks about a model loads no torch."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from actors.models.kinds import Task
from actors.records import Batch, ImageRequest

Pixels = NDArray[np.uint8]
"""Images as `[height, width, 3]` (one) or `[batch, height, width, 3]`, RGB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """What is known of a loaded model: what goes into every row, and what a silent row gets."""

    model: str
    model_revision: str | None = None
    weights_sha256: str | None = None
    model_license: str = "unknown"
    model_tier: str = "unknown"
    """What the weights were made to draw: `clean` where nobody's picture was ever in them."""
    recipe: str | None = None
    """JSON of what else changes the pictures: what was put into the model, and how it is run."""
    scheduler: str | None = None
    dtype: str | None = None
    threads: int | None = None
    device: str = "cpu"
    width: int = 512
    height: int = 512
    num_inference_steps: int = 50
    guidance_scale: float = 7.5
    negative_prompt: str = ""
    size_multiple: int = 8
    task: Task = "text-to-image"
    strength: float | None = None
    """None where the task has none; so are the next two."""
    noise_level: int | None = None
    max_noise_level: int | None = None
    may_be_blank: bool = False
    """Constant images are what this model is for (`fake`), so that they are no fault."""


@dataclass(frozen=True, slots=True)
class Images:
    """What one forward pass made, in the order of the batch's requests, without the filling."""

    pixels: Pixels
    """uint8 `[len(requests), height, width, 3]`."""
    finite: tuple[bool, ...]
    """False where the model gave NaN or infinity: the pixels are then meaningless."""
    nsfw: tuple[bool | None, ...]
    """The word of the model's own safety checker; None where there is none, or it was not asked."""
    nsfw_score: tuple[float | None, ...]
    """By how much it is over what the checker lets pass: flagged above 0."""
    prompt_truncated: tuple[int, ...]
    """Tokens of each prompt that the text encoder did not see."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Of the device, by stage (`text`, `denoise`, `decode`), as far as the model can tell them apart."""


class ImageModel(Protocol):
    """One model on one device. Used by one thread at a time."""

    info: ModelInfo

    def counted(self, requests: Iterable[ImageRequest]) -> tuple[ImageRequest, ...]:
        """The requests with their `chunks`, by which they share batches. One thread may ask for that while another
        generates."""
        ...

    def warm_up(self) -> None:
        """Do what makes the first batch slower than the others, where that is worth it; before there is any."""
        ...

    def uncompiled(self) -> AbstractContextManager[object]:
        """While this lasts nothing is compiled, and what is compiled is not used."""
        ...

    def launch(self, batch: Batch, ahead: Iterable[ImageRequest] = ()) -> Callable[[], Images]:
        """Give the device one forward pass of exactly `batch.size` images; what is returned waits for them, and may be
        called by another thread, while the next batch is given. Some of the requests of later batches are `ahead`.

        The noise of each image comes from a CPU `torch.Generator` seeded with the request's `seed`, so it does not
        depend on shard, worker, neighbours or device. Raises `OutOfMemory` when the device has no room for the batch;
        any other exception means that at least one request cannot be made.
        """
        ...
