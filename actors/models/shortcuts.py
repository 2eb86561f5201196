"""Shortcuts: what a job leaves out of a model's work, at the price of other pictures."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import diffusers
import torch

from actors.errors import InputError
from actors.models.compilation import denoiser
from actors.models.deepcache import DeepCache
from actors.models.guidance import GuidanceInterval
from actors.models.offers import refused
from actors.models.settings import CacheSettings, ShortcutSettings
from actors.records import ImageRequest

FP8 = (8, 9)
"""Compute capability, Ada, from which a GPU multiplies in it."""
FIRST_STEPS = 3
"""That `taylorseer` computes whole, to learn how they go on."""


class Shortcuts:
    """Of one pipeline, put into it for good."""

    def __init__(self, pipeline: diffusers.DiffusionPipeline, settings: ShortcutSettings) -> None:
        """Raises `InputError` (LM1225) where a library is missing."""
        self._deepcache: DeepCache | None = None
        self._interval: GuidanceInterval | None = None
        if settings.quantization:
            quantize(denoiser(pipeline), settings.quantization)
        if settings.cache and settings.cache.kind == "deepcache":
            self._deepcache = DeepCache(pipeline.unet, settings.cache.interval or 0)
        elif settings.cache:
            pipeline.transformer.enable_cache(_config(settings.cache, pipeline.transformer.dtype))
        if settings.guidance_interval:
            self._interval = GuidanceInterval(pipeline, *settings.guidance_interval)
        said = settings.model_dump(mode="json", exclude_none=True)
        self.recipe: dict[str, Any] = {"shortcuts": said} if said else {}

    @contextmanager
    def of(self, requests: Sequence[ImageRequest]) -> Iterator[None]:
        """While the pipeline is called for these. Nothing of them stays on the device, however that ends."""
        if self._interval:
            self._interval.begin(len(requests), requests[0].strength)
        try:
            yield
        finally:
            if self._deepcache:
                self._deepcache.reset()


def _config(cache: CacheSettings, dtype: torch.dtype) -> Any:  # noqa: ANN401 - one of diffusers' many
    if cache.kind == "first_block":
        return diffusers.FirstBlockCacheConfig(threshold=cache.threshold)
    return diffusers.TaylorSeerCacheConfig(
        cache_interval=cache.interval, disable_cache_before_step=FIRST_STEPS, taylor_factors_dtype=dtype
    )


def quantize(network: torch.nn.Module, kind: Literal["int8", "fp8"]) -> None:
    """Have the transformer blocks multiply in 8 bits: weights once, what they are multiplied with as it comes. Each
    channel of weights has a scale of its own, and so has each token."""
    try:
        from torchao import quantization
    except ImportError as error:
        message = f"quantization needs the package torchao: {error}"
        action = "install it where the workers run: `pip install 'lightmill[fast]'`"
        raise InputError(refused("quantization", kind, message, action)) from error
    if kind == "fp8":
        _refuse_devices_without_fp8(network)
        config = quantization.Float8DynamicActivationFloat8WeightConfig(granularity=quantization.PerRow())
    else:
        config = quantization.Int8DynamicActivationInt8WeightConfig()

    def is_meant(module: torch.nn.Module, name: str) -> bool:
        return isinstance(module, torch.nn.Linear) and "blocks." in name

    quantization.quantize_(network, config, filter_fn=is_meant)


def _refuse_devices_without_fp8(network: torch.nn.Module) -> None:
    device = next(network.parameters()).device
    if device.type != "cuda":
        message, action = "only a GPU multiplies in fp8", "use `int8`, or workers with a GPU"
    elif torch.cuda.get_device_capability(device) < FP8:
        message = f"{torch.cuda.get_device_name(device)} cannot multiply in fp8"
        action = "use `int8`, or a GPU of the Ada or Hopper generation"
    else:
        return
    raise InputError(refused("quantization", "fp8", message, action))
