"""Prompt encodings: for which pipelines a job may ask for another one than diffusers' own."""

from actors.errors import InputError, Problem
from actors.models.settings import ModelSettings

WEIGHTED = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")
"""Classes whose text encoders are CLIP's alone; and those that do other tasks with the same parts."""
_PARTS_OF_A_NAME = ("Img2Img", "Inpaint", "Depth2Img", "Upscale")


def refuse_weights(settings: ModelSettings, pipeline: str | None, clip_skip: int | None) -> None:
    """Raise `InputError` (LM1222) where the job asks for weighted prompts of a model that cannot have them."""
    if settings.prompt_encoding == "plain":
        return
    kind = pipeline or settings.model
    for part in _PARTS_OF_A_NAME:
        kind = kind.replace(part, "")
    most = 0 if "XL" in kind else 1
    if kind not in WEIGHTED:
        message = f"{settings.model} ({pipeline}) takes no weighted prompts: only Stable Diffusion 1, 2 and XL do"
    elif clip_skip and clip_skip > most:
        message = f"weighted prompts of {settings.model} go with a clip_skip of {most} at most, not {clip_skip}"
    else:
        return
    raise InputError(Problem("LM1222", message, where="prompt_encoding", value="weighted", help="use `plain`"))
