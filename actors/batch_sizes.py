"""BatchSizes: how many images go on the device at a time, of each kind of request. `auto` finds out, once per machine.

What was found lies in a small file beside the weights: later jobs, other workers and a resumed job take that. Where it
does not fit all the same, it is smaller for as long as the worker lives, and the file stays as it is: whatever took the
memory may be gone by the next time, and finding out that it is not costs one batch. Each row says which size its image
was computed with, so it can be made again to the byte whatever the file says then.
"""

import hashlib
import json
import logging
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import monotonic

from actors.device import Device
from actors.errors import OutOfMemory
from actors.inputs import InputReader
from actors.models.cache import cache_folder, one_at_a_time
from actors.models.settings import MAX_BATCH, ModelSettings
from actors.records import Batch, ImageRequest

_log = logging.getLogger(__name__)

LEAST_GAIN = 1.03
"""Images a second, of twice the batch. Below it the smaller one is as good, with more room and a shorter last batch."""
STEPS = 2
"""Of a trial: they all take the same time."""
TRIALS = 2
"""Of a size. The first makes room and chooses kernels; the faster one counts."""
PATIENCE_SECONDS = 60.0
"""After which no larger size is tried."""
OTHERWISE = 8
"""Where nothing can be tried, as the input of the first request is no good."""


class BatchSizes:
    """Of one model on one device."""

    def __init__(self, settings: ModelSettings, device: Device, inputs: InputReader) -> None:
        self._settings = settings
        self._device = device
        self._inputs = inputs
        self._known: dict[str, int] = {}

    def of(self, request: ImageRequest) -> int:
        """For images like this one. May use the device, which nobody else does then."""
        if self._settings.batch_size != "auto":
            return self._settings.batch_size
        kind = self._kind(request)
        if kind not in self._known:
            self._known[kind] = self._find(kind, request)
        size = self._known[kind]
        return min(size, self._device.room(Batch((request,), size)))

    def _find(self, kind: str, request: ImageRequest) -> int:
        file = _file(kind)
        with one_at_a_time(file.stem):  # another worker of this machine may be at it
            size = recall(file)
            if size is not None:
                _log.info("batches of %d for %dx%d: remembered", size, request.width, request.height)
                return size
            began = monotonic()
            trial, _ = self._inputs.attach(Batch((_trial(request),), 1), None)
            if not trial.requests:
                return OTHERWISE
            size = best_size(lambda number: self._seconds(Batch(trial.requests, number)))
            remember(file, size, kind)
        took = monotonic() - began
        _log.info("batches of %d for %dx%d: tried out in %.1f s", size, request.width, request.height, took)
        return size

    def _seconds(self, batch: Batch) -> float:
        return min(self._device.try_out(batch) for _ in range(TRIALS))

    def _kind(self, request: ImageRequest) -> str:
        """All that the fastest size depends on, as text."""
        info = self._device.info
        of_model = [info.model, info.weights_sha256, info.recipe, info.dtype, info.device, info.threads]
        of_request = [request.width, request.height, request.chunks, request.guidance_scale > 1]
        # Not the steps of the request: where a table has many numbers of them, each would be tried out.
        of_job = [self._settings.gpus_per_worker, self._settings.offload_text_encoders, info.num_inference_steps]
        return json.dumps([*of_model, *of_job, *of_request])


def best_size(seconds: Callable[[int], float], most: int = MAX_BATCH) -> int:
    """The batch, doubled as long as that pays, fits and does not take too long to find out."""
    began, best, pace = monotonic(), 1, float("inf")
    size = 1
    while size <= most and monotonic() - began < PATIENCE_SECONDS:
        try:
            now = seconds(size) / size
        except OutOfMemory:
            break
        if pace < now * LEAST_GAIN:
            break
        best, pace = size, now
        size *= 2
    return best


def recall(file: Path) -> int | None:
    """What was found before; None where there is nothing, or nothing of use."""
    try:
        size = json.loads(file.read_text(encoding="utf-8"))["batch_size"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return size if type(size) is int and 1 <= size <= MAX_BATCH else None


def remember(file: Path, size: int, kind: str) -> None:
    """Put it there whole or not at all. Where it cannot be kept, it is found out again next time."""
    draft = file.with_suffix(f".{uuid.uuid4().hex}")
    try:
        draft.write_text(json.dumps({"batch_size": size, "kind": json.loads(kind)}), encoding="utf-8")
        draft.replace(file)
    except OSError as error:
        _log.warning("batch size not remembered: %s", error)


def _file(kind: str) -> Path:
    return cache_folder("batch-sizes") / f"{hashlib.sha256(kind.encode()).hexdigest()[:16]}.json"


def _trial(request: ImageRequest) -> ImageRequest:
    """With few steps, where the number of steps does not say how much of an input stays; and without words, since those
    of a row may be what a model raises at, or dies of."""
    steps = request.num_inference_steps if request.strength else min(STEPS, request.num_inference_steps)
    return replace(request, num_inference_steps=steps, prompt=replace(request.prompt, text=""))
