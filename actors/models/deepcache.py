"""DeepCache: most of a UNet's work in one step serves the next ones as well, where the picture changes little.

After Ma et al., "DeepCache: Accelerating Diffusion Models for Free" (arXiv 2312.00858): every so manieth step is
computed whole, and those between only in the UNet's outermost layer, with what the deeper ones gave before. Which steps
these are depends on their number alone, so that a picture has nothing to do with its neighbours.
"""

from collections.abc import Callable, Iterator
from typing import Any

import diffusers
import torch


class DeepCache:
    """For one UNet."""

    def __init__(self, unet: diffusers.UNet2DConditionModel, interval: int) -> None:
        self._interval = interval
        self._step = -1
        self._kept: dict[torch.nn.Module, Any] = {}
        unet.register_forward_pre_hook(self._count)
        for module in _deeper(unet):
            module.forward = self._sparing(module, module.forward)

    def reset(self) -> None:
        """Other pictures come next."""
        self._step = -1
        self._kept.clear()

    def _count(self, _unet: torch.nn.Module, _inputs: object) -> None:
        self._step += 1

    def _sparing(self, module: torch.nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
        def spare(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever the module takes and gives
            if self._step % self._interval == 0:
                self._kept[module] = forward(*args, **kwargs)
            return self._kept[module]

        return spare


def _deeper(unet: diffusers.UNet2DConditionModel) -> Iterator[torch.nn.Module]:
    """All but what comes in, and the last layer before it goes out."""
    *others, outermost = unet.up_blocks
    yield from unet.down_blocks
    if unet.mid_block is not None:
        yield unet.mid_block
    yield from others
    yield from outermost.resnets[:-1]
    if hasattr(outermost, "attentions"):
        yield from outermost.attentions[:-1]
