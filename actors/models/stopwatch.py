"""Stopwatch: which part of a batch's time went to its text, to denoising and to decoding, without waiting for it."""

import time
from typing import Literal

import torch

Stage = Literal["text", "denoise", "decode"]


class Stopwatch:
    """Of one batch. On a GPU the marks are events among the kernels: the device itself says when it came to them."""

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._marks: list[tuple[Stage | None, float | torch.cuda.Event]] = []

    def begin(self, stage: Stage | None) -> None:
        """What comes now is this; None where nothing does."""
        self._marks.append((stage, self._mark()))

    def seconds(self) -> dict[str, float]:
        """By stage. Only once the device has come past the last mark."""
        spent: dict[str, float] = {}
        for (stage, since), (_, until) in zip(self._marks, self._marks[1:], strict=False):
            if stage is not None:
                spent[stage] = spent.get(stage, 0.0) + _between(since, until)
        return spent

    def _mark(self) -> float | torch.cuda.Event:
        if not self._on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event


def _between(since: "float | torch.cuda.Event", until: "float | torch.cuda.Event") -> float:
    if isinstance(since, float) or isinstance(until, float):
        return float(until) - float(since)  # type: ignore[arg-type]  # both are
    return float(since.elapsed_time(until)) / 1000
