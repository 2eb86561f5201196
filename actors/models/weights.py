"""Weights: where on this machine they are."""

from pathlib import Path

from actors.errors import InputError, Problem
from actors.models.card import Weights
from actors.models.registry import close_to


def weights_folder(weights: Weights) -> Path:
    """The folder with the weights of a card. Raises `InputError` (LM1201) where this machine has none."""
    assert weights.id is not None
    folder = Path(weights.id).expanduser()
    if not folder.is_dir():
        raise InputError(
            Problem(
                "LM1201",
                f"the weights of {weights.id} are not on this machine, and lightmill does not download them",
                help=f"download them into the folder {folder}"
                + (f", at revision {weights.revision}" if weights.revision else ""),
            )
        )
    return folder


def folder_of(model: str) -> Path:
    """The folder of a model that has no card. Raises `InputError` (LM1201) where there is none."""
    folder = Path(model).expanduser()
    try:
        if folder.is_file():
            help_ = "name the folder that `pipe.save_pretrained(...)` wrote, or a card that names the file"
            raise InputError(Problem("LM1201", f'model "{model}" is a file, not a folder', help=help_))
        if not folder.is_dir():
            raise InputError(_not_there(model, folder))
    except OSError as error:
        message = f"the model cannot be read: {error.strerror}"
        raise InputError(Problem("LM1201", message, where=str(folder), help=f"ls -ld {folder}")) from error
    return folder


def _not_there(model: str, folder: Path) -> Problem:
    siblings = [str(folder.parent / path.name) for path in folder.parent.iterdir()] if folder.parent.is_dir() else []
    close = close_to(model, [*siblings, *(Path(sibling).name for sibling in siblings)])
    possible = "a name of `lightmill models`, a card's path, or a folder written by `pipe.save_pretrained(...)`"
    return Problem(
        "LM1201",
        f'model "{model}" not found' + (f"; did you mean {close}?" if close else ""),
        help=f"use {possible}",
    )
