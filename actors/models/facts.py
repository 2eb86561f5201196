"""What a model's folder says of it without loading anything: no torch, no weights, a few small JSON files.

The laptop plans with these facts, and a worker starts from the same ones, so both see the same default sizes.
"""

import dataclasses
import difflib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.errors import InputError, Problem
from actors.models.fake import FakeOptions
from actors.settings import ModelSettings

BUILT_IN = ("tiny", "fake")
TINY_REVISION = "1"
"""Changes whenever the weights of `tiny` do."""
TINY_SIDE = 64
CLIP_TOKENS = 77

PICKLES = frozenset({".bin", ".ckpt", ".pt", ".pth", ".pkl"})
"""Suffixes of weights that run code when they are loaded."""

OTHER_TASKS = re.compile(
    r"Img2Img|Inpaint|Upscale|Depth2Img|Variation|Pix2Pix|Edit|ControlNet|Kontext|FluxControl|CogView4Control"
    r"|Prior|Video|ToVideo|Audio|Music|Animate|3D|ShapE|I2V|T2V"
)
"""Parts of the class names of pipelines that want more than a prompt, or make something else than an image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What is known of a model before it is loaded, with the job's own settings already applied."""

    model: str
    width: int
    height: int
    size_multiple: int
    folder: Path | None = None
    """None for what is built in."""
    pipeline: str | None = None
    """Name of the diffusers class; None for `fake`."""
    revision: str | None = None
    num_inference_steps: int | None = None
    """None: the default of the pipeline's class, which only diffusers knows."""
    guidance_scale: float | None = None
    tokenizer: Path | None = None
    """Folder of the tokenizer of which the text encoder reads most."""
    prompt_tokens: int | None = None
    """How many tokens that is, begin and end marks included."""
    license: str = "unknown"
    """SPDX identifier, where one is known."""
    tier: str = "unknown"


_TINY = ModelFacts(
    model="tiny",
    width=TINY_SIDE,
    height=TINY_SIDE,
    size_multiple=8,
    pipeline="StableDiffusionPipeline",
    revision=TINY_REVISION,
    num_inference_steps=6,
    guidance_scale=7.5,
    license="CC0-1.0",
    tier="clean",
    prompt_tokens=CLIP_TOKENS,
)


def _fake(model: str) -> ModelFacts:
    return ModelFacts(
        model=model,
        width=256,
        height=256,
        size_multiple=1,
        num_inference_steps=1,
        guidance_scale=0.0,
        license="CC0-1.0",
        tier="clean",
    )


def describe_model(settings: ModelSettings) -> ModelFacts:
    """What can be said of the model from here. Raises `InputError`: LM1201 it is not there, LM1204 its weights are
    pickles, LM1206 it does not make images from text, LM1207 it wants to run code of its own."""
    if settings.model.partition(":")[0] == "fake":
        FakeOptions.parse(settings.model)
        return _as_set(_fake(settings.model), settings)
    if settings.model == "tiny":
        return _as_set(_TINY, settings)
    folder = _model_folder(settings.model)
    index = _model_index(folder)
    _refuse_code(folder, index)
    _refuse_other_tasks(folder, index)
    _refuse_pickles(folder, index)
    return _as_set(_folder_facts(settings.model, folder, index), settings)


def component_folders(folder: Path, index: dict[str, Any]) -> list[Path]:
    """The parts that the pipeline is made of, by name."""
    named = sorted(name for name, entry in index.items() if isinstance(entry, list) and entry[0])
    return [folder / name for name in named if (folder / name).is_dir()]


def read_json(path: Path) -> dict[str, Any]:
    """A config file of a model; empty where there is none."""
    if not path.is_file():
        return {}
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(
            Problem("LM1206", f"not readable as JSON: {error}", where=str(path), help="download the model again")
        ) from error
    if not isinstance(loaded, dict):
        raise InputError(Problem("LM1206", "not a JSON object", where=str(path), help="download the model again"))
    return loaded


def _as_set(facts: ModelFacts, settings: ModelSettings) -> ModelFacts:
    """The facts, with what the job says in place of the model's own defaults."""
    guidance = settings.guidance_scale
    return dataclasses.replace(
        facts,
        width=settings.width or facts.width,
        height=settings.height or facts.height,
        num_inference_steps=settings.num_inference_steps or facts.num_inference_steps,
        guidance_scale=facts.guidance_scale if guidance is None else guidance,
    )


def _model_folder(name: str) -> Path:
    folder = Path(name).expanduser()
    try:
        if folder.is_file():
            help_ = "name the folder that `pipe.save_pretrained(...)` wrote"
            raise InputError(Problem("LM1201", f'model "{name}" is a file, not a folder', help=help_))
        if not folder.is_dir():
            raise InputError(_not_there(name, folder))
    except OSError as error:
        message = f"the model cannot be read: {error.strerror}"
        raise InputError(Problem("LM1201", message, where=str(folder), help=f"ls -ld {folder}")) from error
    return folder


def _not_there(name: str, folder: Path) -> Problem:
    siblings = [str(folder.parent / p.name) for p in folder.parent.iterdir()] if folder.parent.is_dir() else []
    close = difflib.get_close_matches(name, [*BUILT_IN, *siblings, *(Path(s).name for s in siblings)], n=1)
    possible = "`tiny`, `fake`, or a folder written by `pipe.save_pretrained(...)`: nothing is downloaded by name"
    return Problem(
        "LM1201",
        f'model "{name}" not found' + (f"; did you mean {close[0]}?" if close else ""),
        help=f"use {possible}",
    )


def _model_index(folder: Path) -> dict[str, Any]:
    index = read_json(folder / "model_index.json")
    if not index:
        raise InputError(
            Problem(
                "LM1206",
                f"{folder} is not a diffusers pipeline: it has no model_index.json",
                help="name the folder that `pipe.save_pretrained(...)` wrote",
            )
        )
    return index


def _refuse_code(folder: Path, index: dict[str, Any]) -> None:
    own_code = sorted(str(p.relative_to(folder)) for p in [*folder.glob("*.py"), *folder.glob("*/*.py")])
    class_name = index.get("_class_name")
    if isinstance(class_name, str) and not own_code:
        return
    what = f"files {', '.join(own_code)}" if own_code else f"a pipeline class of its own, {class_name}"
    raise InputError(
        Problem(
            "LM1207",
            f"{folder} comes with code ({what}), and lightmill runs none",
            help="use a model whose pipeline class is part of diffusers",
        )
    )


def _refuse_other_tasks(folder: Path, index: dict[str, Any]) -> None:
    name = index["_class_name"]
    reads_text = any(part.startswith(("tokenizer", "processor")) for part in index)
    if reads_text and not OTHER_TASKS.search(name):
        return
    why = "it reads no prompt" if not reads_text else "it does another task"
    raise InputError(
        Problem(
            "LM1206",
            f"{name} does not make images from text alone: {why}",
            where=str(folder / "model_index.json"),
            help="use a text-to-image pipeline, such as StableDiffusionPipeline",
        )
    )


def _refuse_pickles(folder: Path, index: dict[str, Any]) -> None:
    problems = []
    for part in component_folders(folder, index):
        pickles = sorted(p.name for p in part.iterdir() if p.suffix in PICKLES)
        if pickles and not any(part.glob("*.safetensors")):
            problems.append(
                Problem(
                    "LM1204",
                    f"{part.name}/ has no safetensors weights, only {', '.join(pickles)}, which may run code",
                    where=str(part),
                    help="save the model again with `pipe.save_pretrained(folder, safe_serialization=True)`",
                )
            )
    if problems:
        raise InputError(*problems)


def _folder_facts(model: str, folder: Path, index: dict[str, Any]) -> ModelFacts:
    vae = read_json(folder / "vae" / "config.json")
    blocks = vae.get("block_out_channels") or vae.get("encoder_block_out_channels") or vae.get("dim_mult") or [0] * 4
    scale = 2 ** (len(blocks) - 1)
    has_unet = (folder / "unet").is_dir()
    denoiser = read_json(folder / ("unet" if has_unet else "transformer") / "config.json")
    # Transformers without a sample_size (FLUX, Qwen-Image, Z-Image) are all trained at a megapixel.
    sample = denoiser.get("sample_size") or (512 if has_unet else 1024) // scale
    height, width = sample if isinstance(sample, list) else (sample, sample)
    tokenizer, tokens = widest_tokenizer(folder)
    return ModelFacts(
        model=model,
        folder=folder,
        pipeline=index["_class_name"],
        width=width * scale,
        height=height * scale,
        # UNets are checked for 8 pixels; transformers take latents in patches of 2x2.
        size_multiple=max(8 if has_unet else 16, scale),
        tokenizer=tokenizer,
        prompt_tokens=tokens,
    )


def widest_tokenizer(folder: Path) -> tuple[Path | None, int | None]:
    """Of a model's tokenizers the one that takes most, and how many tokens: what it cuts off, no text encoder sees."""
    found: dict[Path, int] = {}
    for part in sorted(folder.glob("tokenizer*")):
        length = read_json(part / "tokenizer_config.json").get("model_max_length")
        # Unset, transformers writes 1e30.
        found[part] = int(length) if isinstance(length, int) and length < 1e6 else 0
    if not found:
        return None, None
    widest = max(found, key=lambda part: found[part])
    return widest, found[widest] or None
