"""Tasks: what a pipeline can be asked for beside pictures from text, and which class of diffusers does it.

A model that draws from text has siblings: classes with the same parts that take an input image as well.
"""

from collections.abc import Iterable, Mapping

from actors.errors import InputError, Problem
from actors.models.kinds import Task
from actors.models.settings import ModelSettings
from actors.settings import MAX_SIDE, Override

NEEDS: Mapping[Task, tuple[Override, ...]] = {
    "text-to-image": (),
    "image-to-image": ("image",),
    "inpainting": ("image", "mask_image"),
    "depth-to-image": ("image",),
    "upscale": ("image",),
}
"""The input images that a task cannot do without."""
TAKES: Mapping[Task, tuple[Override, ...]] = {**NEEDS, "depth-to-image": ("image", "depth_map")}
"""Those that it makes use of. A depth map that is missing is estimated."""
MOVED_BY: Mapping[Override, tuple[Task, ...]] = {
    "strength": ("image-to-image", "inpainting", "depth-to-image"),
    "noise_level": ("upscale",),
}
"""The tasks to which a setting means something."""
UPSCALE = 4
"""Sides of an upscaled picture, in sides of the input."""

_OWN: Mapping[str, Task] = {
    "StableDiffusionImg2ImgPipeline": "image-to-image",
    "StableDiffusionXLImg2ImgPipeline": "image-to-image",
    "StableDiffusionInpaintPipeline": "inpainting",
    "StableDiffusionXLInpaintPipeline": "inpainting",
    "StableDiffusionDepth2ImgPipeline": "depth-to-image",
    "StableDiffusionUpscalePipeline": "upscale",
}
"""Classes that need an input image. Any other one that reads a prompt draws from text."""
_SIBLINGS: Mapping[str, Mapping[Task, str]] = {
    "StableDiffusionPipeline": {
        "image-to-image": "StableDiffusionImg2ImgPipeline",
        "inpainting": "StableDiffusionInpaintPipeline",
    },
    "StableDiffusionXLPipeline": {
        "image-to-image": "StableDiffusionXLImg2ImgPipeline",
        "inpainting": "StableDiffusionXLInpaintPipeline",
    },
    "StableDiffusion3Pipeline": {"image-to-image": "StableDiffusion3Img2ImgPipeline"},
    "FluxPipeline": {"image-to-image": "FluxImg2ImgPipeline"},
    "ChromaPipeline": {"image-to-image": "ChromaImg2ImgPipeline"},
    "QwenImagePipeline": {"image-to-image": "QwenImageImg2ImgPipeline"},
}


def own_task(pipeline: str | None) -> Task:
    """What a pipeline of this class was saved for."""
    return _OWN.get(pipeline or "", "text-to-image")


def is_known(pipeline: str) -> bool:
    """Whether it is one of the classes that need an input image, and are known here."""
    return pipeline in _OWN


def class_for(model: str, pipeline: str | None, task: Task) -> str | None:
    """The class that does the task with the parts of a pipeline of this class; None for what is not of diffusers.

    Raises `InputError` (LM1206) where there is none.
    """
    classes = _classes(pipeline)
    if task in classes:
        return classes[task]
    raise InputError(
        Problem(
            "LM1206",
            f"{model} does not do {task}: it is for {' and '.join(classes)}",
            help=f"use one that `lightmill models --task {task}` lists",
        )
    )


def refuse_without_inputs(model: str, task: Task, overrides: Iterable[Override]) -> None:
    """Raise `InputError` (LM1209) where the job names no column for an image that the task needs."""
    missing = [name for name in NEEDS[task] if name not in set(overrides)]
    if missing:
        raise InputError(
            Problem(
                "LM1209",
                f"{task} with {model} needs a column of input images for {' and '.join(missing)}",
                help=f"name it in the job: `overrides: [{', '.join(NEEDS[task])}]`",
            )
        )


def refuse_as_later(model: str, task: Task) -> None:
    """Raise `InputError` (LM1211) where a stage is not the first, and its task is not to make one image of another."""
    if NEEDS[task] != ("image",):
        able = [name for name, needs in NEEDS.items() if needs == ("image",)]
        raise InputError(
            Problem(
                "LM1211",
                f"{model} does {task}, and a later stage makes its image of the one before",
                help=f"say `task:`, of {', '.join(able)}, or use another model",
            )
        )


def refuse_idle(settings: ModelSettings, task: Task, pipeline: str | None) -> None:
    """Raise `InputError` (LM1210) where the job sets what means nothing to the task."""
    idle = [name for name, tasks in MOVED_BY.items() if getattr(settings, name) is not None and task not in tasks]
    if idle:
        message = f"{' and '.join(idle)} of {settings.model} would change nothing: it does {task}"
        able = [other for other in _classes(pipeline) if all(other in MOVED_BY[name] for name in idle)]
        others = f", or say `task:`, such as {' or '.join(able)}" if able else ""
        raise InputError(Problem("LM1210", message, help=f"leave it out{others}"))


def _classes(pipeline: str | None) -> dict[Task, str | None]:
    """What does each task with the parts of such a pipeline."""
    return {own_task(pipeline): pipeline, **_SIBLINGS.get(pipeline or "", {})}


def refuse_idle_columns(task: Task, overrides: Iterable[Override]) -> None:
    """Raise `InputError` (LM1210) where a column that steers the first of several stages means nothing to its task."""
    idle = [name for name in overrides if task not in MOVED_BY.get(name, (task,))]
    if idle:
        named = " and ".join(idle)
        message = f"a column for {named} would change nothing: it is for the first stage, which does {task}"
        raise InputError(Problem("LM1210", message, help=f"say {named} under the later stage, for all rows"))


def too_large(model: str, width: int, height: int) -> Problem:
    """Of a later stage: what it would make of the images before is larger than any image may be."""
    message = f"{model} would make images of {width}x{height}, over {MAX_SIDE} pixels a side"
    return Problem("LM1211", message, help="say a smaller `width` and `height` in the first stage")
