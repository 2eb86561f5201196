"""Weights on this machine: which files they are, whether they may be read, and whether they are the right ones."""

import functools
import hashlib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from threading import Lock

from actors.errors import InputError, Problem
from actors.models.card import PICKLES, VARIANTS, is_pickle_file
from actors.models.folder import component_folders, read_json
from actors.models.settings import WeightsSettings

_hashing = Lock()


def weight_files(path: Path) -> list[Path]:
    """The files with numbers in them that loading reads: the file itself, or those of each part of a pipeline.

    Pickles count only in a part that has no safetensors; variants in none, as other programs leave them in a cache.
    """
    if path.is_file():
        return [path]
    parts = component_folders(path, read_json(path / "model_index.json")) or [path]
    return sorted(file for part in parts for file in _safetensors(part)) + list(_pickles(parts))


def has_pickles(path: Path) -> bool:
    """Whether loading reads a pickle. Where it does not, diffusers has to be told, lest it falls back to one."""
    if path.is_file():
        return is_pickle_file(path.name)
    return any(file.suffix.lower() in PICKLES for file in weight_files(path))


def _safetensors(part: Path) -> list[Path]:
    return [file for file in part.glob("*.safetensors") if not _is_variant(file)]


def _pickles(parts: list[Path]) -> Iterator[Path]:
    for part in parts:
        if not _safetensors(part):
            files = (file for file in part.iterdir() if file.suffix.lower() in PICKLES)
            yield from sorted(file for file in files if not _is_variant(file))


def _is_variant(file: Path) -> bool:
    return any(fnmatch(file.name, variant) for variant in VARIANTS)


def weights_sha256(path: Path) -> str:
    """The hash of a single file, or one hash over the names and hashes of a folder's weights. Once per process, as a
    GB takes 0.5 s: whoever asks meanwhile waits for it."""
    with _hashing:
        return _weights_sha256(path)


@functools.cache
def _weights_sha256(path: Path) -> str:
    if path.is_file():
        return _sha256(path)
    total = hashlib.sha256()
    for file in weight_files(path):
        total.update(f"{file.relative_to(path).as_posix()} {_sha256(file)}\n".encode())
    return total.hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse_pickles(settings: WeightsSettings, path: Path) -> None:
    """Raise `InputError` (LM1204) where weights are pickles and the job does not both permit and pin them."""
    if not has_pickles(path) or (settings.allow_pickle and settings.sha256):
        return
    if settings.allow_pickle:
        message = f"{settings.model} is a pickle, and the job does not say which one it trusts"
        help_ = f"if what is here now is trusted: `sha256: {weights_sha256(path)}`"
        raise InputError(Problem("LM1204", message, where=str(path), help=help_))
    help_ = "get it as safetensors, or trust it: `allow_pickle: true` and its `sha256`"
    raise InputError(*(Problem("LM1204", said, where=str(place), help=help_) for place, said in _told(path)))


def _told(path: Path) -> Iterator[tuple[Path, str]]:
    if path.is_file():
        yield path, f"{path.name} is a pickle, which may run code"
        return
    pickles = [file for file in weight_files(path) if file.suffix.lower() in PICKLES]
    for folder in dict.fromkeys(file.parent for file in pickles):
        names = ", ".join(file.name for file in pickles if file.parent == folder)
        yield folder, f"{folder.name}/ has no safetensors weights, only {names}, which may run code"


def verify(settings: WeightsSettings, path: Path) -> None:
    """Raise `InputError` (LM1220) where the weights are not those that the job names by hash."""
    if settings.sha256 and (found := weights_sha256(path)) != settings.sha256:
        raise InputError(
            Problem(
                "LM1220",
                f"the weights of {settings.model} are not those that the job names",
                where=str(path),
                value=f"sha256 {found}",
                help=f"get the file with sha256 {settings.sha256}, or correct `sha256`",
            )
        )
