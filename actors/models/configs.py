"""Configs of single files: a checkpoint holds numbers alone, and has to be told what they were trained to predict."""

import shutil
from itertools import chain
from pathlib import Path

from actors.errors import InputError, Problem
from actors.models.folder import CLIP_VOCABULARIES, missing_vocabulary, read_json
from actors.models.settings import ModelSettings
from actors.models.structure import Structure, read_structure
from actors.models.weights import arrive

_SHIPPED = Path(__file__).with_name("configs")
CONFIGS = tuple(sorted(folder.name for folder in _SHIPPED.iterdir() if folder.is_dir()))
"""Those that come with lightmill, by name."""
_BY_SHAPE = {(4, 768): ("sd1",), (4, 1024): ("sd2-base", "sd2-v"), (4, 2048): ("sdxl", "sdxl-v")}
"""Configs by the UNet's input channels and the width of its text."""


def config_folder(settings: ModelSettings, file: Path) -> Path:
    """The folder that describes the pipeline in this checkpoint: the job's `config`, else what its shapes allow.

    Raises `InputError` (LM1221) where the two do not agree, or where shapes leave it open.
    """
    structure = read_structure(file)
    folder = _named(settings) or _SHIPPED / _guess(structure, file)
    unet = read_json(folder / "unet" / "config.json")
    described = (unet.get("in_channels"), unet.get("cross_attention_dim"))
    if described != (structure.in_channels, structure.context):
        raise InputError(
            Problem(
                "LM1221",
                f"{file.name} is not what the config {folder.name} describes: its UNet takes {structure.in_channels} "
                f"channels and text {structure.context} wide, not {described[0]} and {described[1]}",
                where=str(file),
                help=f"use another config; {' or '.join(_fitting(structure)) or 'none of ours'} would fit",
            )
        )
    return folder


def named_config(settings: ModelSettings) -> Path:
    """The folder of the job's `config`, for a file that is not here yet. Raises `InputError` (LM1221) without one."""
    folder = _named(settings)
    if folder is None:
        message = f"{settings.file} of {settings.model} does not say what it is before it is here"
        help_ = f"name what it was trained from: `config:` {', '.join(CONFIGS)}, or a folder"
        raise InputError(Problem("LM1221", message, help=help_))
    return folder


def _named(settings: ModelSettings) -> Path | None:
    if settings.config is None:
        return None
    if settings.config.model in CONFIGS:
        return _SHIPPED / settings.config.model
    folder = arrive(settings.config, "config", texts=True)
    if not (folder / "model_index.json").is_file():
        known = ", ".join(CONFIGS)
        raise InputError(
            Problem(
                "LM1221",
                f"the config {settings.config.model} is not the folder of a pipeline: it has no model_index.json",
                help=f"name one of {known}, or a folder written by `pipe.save_pretrained(...)`",
            )
        )
    return folder


def _fitting(structure: Structure) -> tuple[str, ...]:
    return _BY_SHAPE.get((structure.in_channels, structure.context), ())


def _guess(structure: Structure, file: Path) -> str:
    fitting = _fitting(structure)
    if structure.context == 2048 and fitting:
        return "sdxl-v" if structure.velocity else "sdxl"
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        seen = f"{structure.in_channels} channels and text {structure.context} wide"
        message = f"{file.name} is of no architecture that lightmill has a config for: its UNet takes {seen}"
        help_ = "name the folder of a pipeline that is built alike: `config: ./folder`"
    else:
        message = f"{file.name} is built as Stable Diffusion 2, whose weights do not tell whether they predict noise"
        help_ = "say what it was trained from: `config: sd2-base` (noise) or `config: sd2-v` (velocity)"
    raise InputError(Problem("LM1221", message, where=str(file), help=help_))


def tokenizer_folder(settings: ModelSettings, config: Path) -> Path | None:
    """Where the vocabulary is: the job's `tokenizer`, or None where the config has its own.

    Raises `InputError` (LM1221) where there is none.
    """
    if settings.tokenizer is None:
        if _has_vocabulary(config / "tokenizer"):
            return None
        raise InputError(
            Problem(
                "LM1221",
                f"the config {config.name} comes without a vocabulary, which is too large to ship",
                help="name a folder that has it, or a hub id: `tokenizer: openai/clip-vit-large-patch14`",
            )
        )
    folder = arrive(settings.tokenizer, "tokenizer", texts=True)
    folder = next((place for place in (folder, folder / "tokenizer") if _has_vocabulary(place)), None) or folder
    if not _has_vocabulary(folder):
        message = f"the tokenizer {settings.tokenizer.model} has neither tokenizer.json nor vocab.json and merges.txt"
        raise InputError(Problem("LM1221", message, where=str(folder), help="name the folder of a CLIP tokenizer"))
    return folder


def refuse_config(settings: ModelSettings) -> None:
    """Raise `InputError` (LM1221) where a job says what a folder holds, which says so itself."""
    for name, part in (("config", settings.config), ("tokenizer", settings.tokenizer)):
        if part:
            message = f"{name} tells what a single file holds, and {settings.model} is a folder with its own"
            raise InputError(Problem("LM1221", message, help=f"remove {name}"))


def _has_vocabulary(folder: Path) -> bool:
    return not missing_vocabulary(folder, CLIP_VOCABULARIES)


def assemble(config: Path, tokenizer: Path | None, folder: Path) -> Path:
    """A copy of the config in `folder` with the vocabulary in its tokenizers, as diffusers wants to read them.

    How a tokenizer pads and where it cuts stays as the config says: the models that share CLIP's vocabulary differ in
    that.
    """
    shutil.copytree(config, folder, ignore=shutil.ignore_patterns("*.safetensors", "*.bin"))
    if tokenizer is not None:
        for part in folder.glob("tokenizer*"):
            for name in chain(*CLIP_VOCABULARIES):
                if (tokenizer / name).is_file():
                    shutil.copy(tokenizer / name, part / name)
    return folder
