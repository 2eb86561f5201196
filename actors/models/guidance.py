"""Guidance interval: classifier-free guidance in the middle of the steps alone, and half of the work elsewhere.

After Kynkäänniemi et al., "Applying Guidance in a Limited Interval" (arXiv 2404.07724). Pipelines denoise a batch twice
at once, without the prompts in its first half and with them in the second. Outside the interval only the second is
computed and handed out for both, of which any strength of guidance makes the second again.
"""

from typing import Any

import diffusers
import torch
from torch.utils._pytree import tree_map

from actors.models.compilation import denoiser


class GuidanceInterval:
    """For one pipeline: from one share of the steps, 0 to 1, to another."""

    def __init__(self, pipeline: diffusers.DiffusionPipeline, start: float, stop: float) -> None:
        self._pipeline = pipeline
        self._start, self._stop = start, stop
        self._images, self._strength, self._step = 0, 1.0, -1
        network = denoiser(pipeline)
        self._whole = network.forward
        network.forward = self._forward

    def begin(self, images: int, strength: float | None) -> None:
        """A call of the pipeline, for so many images; with a `strength` it makes that share of the steps."""
        self._images, self._strength, self._step = images, strength or 1.0, -1

    def _forward(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever the network takes and gives
        self._step += 1
        (first, *_) = args or (kwargs.get("sample", kwargs.get("hidden_states")),)
        if first.shape[0] != 2 * self._images or self._is_guided():
            return self._whole(*args, **kwargs)
        args, kwargs = tree_map(self._second_half, (args, kwargs))
        return tree_map(_twice, self._whole(*args, **kwargs))

    def _is_guided(self) -> bool:
        steps = int(len(self._pipeline.scheduler.timesteps) * self._strength)
        return self._start <= self._step / steps < self._stop

    def _second_half(self, value: Any) -> Any:  # noqa: ANN401 - tensors, and what stands between them
        if isinstance(value, torch.Tensor) and value.ndim and value.shape[0] == 2 * self._images:
            return value[self._images :]
        return value


def _twice(value: torch.Tensor) -> torch.Tensor:
    return torch.cat([value, value])
