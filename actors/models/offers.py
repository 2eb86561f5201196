"""Offers: which shortcuts a job may take with which pipelines. Light, so that a plan can say so."""

from collections.abc import Iterator

from actors.errors import InputError, Problem
from actors.models.settings import ModelSettings

_UNETS = (
    "StableDiffusionPipeline",
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionInpaintPipeline",
    "StableDiffusionDepth2ImgPipeline",
    "StableDiffusionUpscalePipeline",
    "StableDiffusionXLPipeline",
    "StableDiffusionXLImg2ImgPipeline",
    "StableDiffusionXLInpaintPipeline",
)
_WITH_CACHES = ("FluxPipeline", "Flux2KleinPipeline", "QwenImagePipeline", "QwenImageImg2ImgPipeline")
"""Classes that tell diffusers' caches when a step begins."""
_GUIDED_AT_ONCE = (
    *_UNETS,
    "StableDiffusion3Pipeline",
    "StableDiffusion3Img2ImgPipeline",
    "PixArtSigmaPipeline",
    "SanaPipeline",
)
"""Classes that denoise with and without the prompt in one batch."""
CACHES = {"deepcache": _UNETS, "taylorseer": _WITH_CACHES, "first_block": _WITH_CACHES}


def refuse_shortcuts(settings: ModelSettings, pipeline: str | None) -> None:
    """Raise `InputError` (LM1225) where the job takes a shortcut that such a model does not have, or that would not
    give each image its own picture."""
    problems = tuple(_problems(settings, pipeline))
    if problems:
        raise InputError(*problems)


def _problems(settings: ModelSettings, pipeline: str | None) -> Iterator[Problem]:
    cache, interval = settings.shortcuts.cache, settings.shortcuts.guidance_interval
    kind = pipeline or settings.model
    if cache and kind not in CACHES[cache.kind]:
        others = [name for name, kinds in CACHES.items() if kind in kinds]
        help_ = f"use {' or '.join(others)}" if others else "leave it out"
        yield refused("cache", cache.kind, f"{settings.model} ({kind}) has no cache of this kind", help_)
    elif cache and cache.kind == "first_block" and settings.batch_size != 1:
        message = "what it leaves out is decided for a batch as a whole: a picture would depend on its neighbours"
        yield refused(
            "cache", cache.kind, message, "use `taylorseer`, which leaves out the same always; or batch_size: 1"
        )
    if interval and kind not in _GUIDED_AT_ONCE:
        message = f"{settings.model} ({kind}) has no guidance that can be left out of steps"
        yield refused("guidance_interval", str(list(interval)), message, "leave it out")
    if cache and interval:
        message = "steps without guidance have no use for what a cache kept of steps with it"
        yield refused("guidance_interval", str(list(interval)), message, "choose this or the cache")
    if settings.compile and pipeline is None:
        message = f"{settings.model} has nothing to compile"
        yield Problem("LM1225", message, where="compile", value="true", help="leave it out")
    yield from _problems_of_quantization(settings, kind)
    if settings.offload_text_encoders:
        yield from _problems_of_offloading(settings, pipeline)


def _problems_of_quantization(settings: ModelSettings, kind: str) -> Iterator[Problem]:
    said = settings.shortcuts.quantization
    if said and kind == settings.model:
        yield refused("quantization", said, f"{settings.model} has no layers of numbers", "leave it out")
    elif said and not settings.compile:
        message = "its arithmetic is slower than none, more than twice as published, where it is not compiled"
        yield refused("quantization", said, message, "say `compile: true` as well")
    if said == "fp8" and settings.dtype not in (None, "bfloat16"):
        message = f"fp8 is made of bfloat16, and the job says {settings.dtype}"
        yield refused("quantization", said, message, "leave `dtype` out")


def _problems_of_offloading(settings: ModelSettings, pipeline: str | None) -> Iterator[Problem]:
    if pipeline is None:
        message = f"{settings.model} has no text encoders"
    elif settings.prompt_encoding == "weighted":
        message = "weighted prompts are encoded one by one, and would wait for the encoders each time"
    else:
        return
    yield Problem("LM1225", message, where="offload_text_encoders", value="true", help="leave it out")


def refused(field: str, value: str, message: str, help_: str) -> Problem:
    """Why the job cannot have what it says of this field of `shortcuts`."""
    return Problem("LM1225", message, where=f"shortcuts.{field}", value=value, help=help_)
