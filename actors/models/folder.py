"""Folder: what a pipeline that diffusers saved says of itself: no torch, no weights, a few small JSON files."""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from actors.errors import InputError, Problem
from actors.models.card import PICKLES
from actors.models.tasks import is_known

OTHER_TASKS = re.compile(
    r"Img2Img|Inpaint|Upscale|Depth2Img|Variation|Pix2Pix|Edit|ControlNet|Kontext|FluxControl|CogView4Control"
    r"|Prior|Video|ToVideo|Audio|Music|Animate|3D|ShapE|I2V|T2V"
)
"""Parts of the class names of pipelines that want more than a prompt, or make something else than an image; of those
that want more, `actors/models/tasks.py` has the ones that are known here."""
WITHOUT_WEIGHTS = re.compile(r"(Scheduler|Tokenizer(Fast)?|Processor(Fast|Pil)?|FeatureExtractor)$")
"""How the class names of parts end that are configuration alone."""
TOKENIZER = re.compile(r"Tokenizer(Fast)?$")
CLIP_VOCABULARIES = (("vocab.json", "merges.txt"), ("tokenizer.json",))
"""Files that hold a vocabulary together. Without any, transformers reads every prompt as the same few marks."""
VOCABULARIES = (
    *CLIP_VOCABULARIES,
    ("spiece.model",),
    ("tokenizer.model",),
    ("sentencepiece.bpe.model",),
    ("vocab.txt",),
)
SAVE_AGAIN = "save the model again with `pipe.save_pretrained(folder)`"


def read_index(folder: Path) -> dict[str, Any]:
    """`model_index.json` of a folder from which images can be made of text, or of text and other images.

    Raises `InputError`: LM1206 it does something else, LM1207 it wants to run code of its own.
    """
    index = read_json(folder / "model_index.json")
    if not index:
        raise InputError(
            Problem(
                "LM1206",
                f"{folder} is not a diffusers pipeline: it has no model_index.json",
                help="name the folder that `pipe.save_pretrained(...)` wrote",
            )
        )
    _refuse_code(folder, index)
    _refuse_other_tasks(folder, index)
    return index


def refuse_gaps(folder: Path) -> None:
    """Raise `InputError` (LM1206) for the folder of a pipeline that lacks a part, or the weights of one."""
    if problems := list(_missing(folder, read_json(folder / "model_index.json"))):
        raise InputError(*problems)


def component_folders(folder: Path, index: dict[str, Any]) -> list[Path]:
    """The parts that the pipeline is made of, by name."""
    return [folder / name for name in sorted(_parts(index)) if (folder / name).is_dir()]


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


def missing_vocabulary(part: Path, kinds: Iterable[tuple[str, ...]] = VOCABULARIES) -> list[str]:
    """What a tokenizer lacks of the kind of vocabulary that it has most of; nothing where one is whole."""
    return min(([file for file in files if not (part / file).is_file()] for files in kinds), key=len)


def native_size(folder: Path) -> tuple[int, int, int]:
    """Width and height that the model was trained for, and what sides have to be multiples of."""
    vae = read_json(folder / "vae" / "config.json")
    blocks = vae.get("block_out_channels") or vae.get("encoder_block_out_channels") or vae.get("dim_mult") or [0] * 4
    scale = 2 ** (len(blocks) - 1)
    has_unet = (folder / "unet").is_dir()
    denoiser = read_json(folder / ("unet" if has_unet else "transformer") / "config.json")
    # Transformers without a sample_size (FLUX, Qwen-Image, Z-Image) are all trained at a megapixel.
    sample = denoiser.get("sample_size") or (512 if has_unet else 1024) // scale
    height, width = sample if isinstance(sample, list) else (sample, sample)
    # UNets are checked for 8 pixels; transformers take latents in patches of 2x2.
    return width * scale, height * scale, max(8 if has_unet else 16, scale)


def _parts(index: dict[str, Any]) -> dict[str, str]:
    """The parts that the index names, with their classes."""
    return {name: str(entry[-1]) for name, entry in index.items() if isinstance(entry, list) and entry and entry[0]}


def _refuse_code(folder: Path, index: dict[str, Any]) -> None:
    own_code = sorted(str(path.relative_to(folder)) for path in [*folder.glob("*.py"), *folder.glob("*/*.py")])
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
    if reads_text and (is_known(name) or not OTHER_TASKS.search(name)):
        return
    why = "it reads no prompt" if not reads_text else "it does another task"
    raise InputError(
        Problem(
            "LM1206",
            f"{name} is for none of lightmill's tasks: {why}",
            where=str(folder / "model_index.json"),
            help="use a text-to-image pipeline, such as StableDiffusionPipeline",
        )
    )


def _missing(folder: Path, index: dict[str, Any]) -> Iterator[Problem]:
    """The parts that the index names and the folder lacks: a download that broke off."""
    for name, kind in sorted(_parts(index).items()):
        part = folder / name
        if not part.is_dir():
            yield _lacking(f"{name}/ ({kind})", folder)
        else:
            yield from (_lacking(f"{name}/{file}", folder) for file in _missing_files(part, kind))


def _missing_files(part: Path, kind: str) -> list[str]:
    """The files without which a part of this class cannot be loaded, or is not what it was."""
    if TOKENIZER.search(kind):
        config, others = "tokenizer_config.json", missing_vocabulary(part)
    elif not WITHOUT_WEIGHTS.search(kind):
        config, others = "config.json", _missing_weights(part)
    else:
        return []
    return [*([] if (part / config).is_file() else [config]), *others]


def _missing_weights(part: Path) -> list[str]:
    named = {file for index in part.glob("*.safetensors.index.json") for file in _shards(index)}
    if named:
        return sorted(file for file in named if not (part / file).is_file())
    found = any(path.suffix.lower() in PICKLES or path.suffix == ".safetensors" for path in part.iterdir())
    return [] if found else ["*.safetensors"]


def _shards(index: Path) -> list[str]:
    """The files over which the weights of a part are spread."""
    weight_map = read_json(index).get("weight_map")
    return [file for file in weight_map.values() if isinstance(file, str)] if isinstance(weight_map, dict) else []


def _lacking(what: str, folder: Path) -> Problem:
    return Problem(
        "LM1206",
        f"the folder lacks {what}, which its model_index.json names",
        where=str(folder),
        help=f"download the model again, or {SAVE_AGAIN}",
    )
