"""Weights: from the words of a job and its card to files on this machine, which arrive there first where need be."""

from pathlib import Path
from typing import Any

from actors.errors import InputError, Problem
from actors.models import hub, mirror
from actors.models.card import ModelCard, Weights
from actors.models.registry import close_to
from actors.models.settings import ModelSettings, WeightsSettings

TEXTS_ALONE = ("config", "tokenizer")
"""Parts of a model of which only the texts are read."""


def with_card(settings: ModelSettings, card: ModelCard | None) -> ModelSettings:
    """The job's words, with the card's where the job is silent: where everything is, and what is put in."""
    if card is None or card.id is None:
        return settings
    config = WeightsSettings(model=card.config) if card.config else None
    place = {**_place(card), **settings.model_dump(include={"revision", "file", "sha256"}, exclude_none=True)}
    if place["file"] != card.file:
        place["sha256"] = settings.sha256  # the card's is that of another file
    return settings.model_copy(
        update={
            **place,
            "config": settings.config or config,
            "tokenizer": settings.tokenizer or _part(settings, "tokenizer", card.tokenizer),
            "vae": settings.vae or _part(settings, "vae", card.vae),
            "clip_skip": card.clip_skip if settings.clip_skip is None else settings.clip_skip,
        }
    )


def _part(settings: ModelSettings, field: str, weights: Weights | None) -> WeightsSettings | None:
    """What a card takes from elsewhere; where the model has a mirror, that is in it."""
    if weights is None:
        return None
    url = mirror.part_url(settings.mirror, field) if settings.mirror else None
    return WeightsSettings(**_place(weights), allow_pickle=settings.allow_pickle, mirror=url)


def _place(weights: Weights) -> dict[str, Any]:
    return {"model": weights.id, "revision": weights.revision, "file": weights.file, "sha256": weights.sha256}


def arrive(settings: WeightsSettings, what: str = "model", *, texts: bool = False) -> Path:
    """The folder or file with these weights, copied here first where it has a mirror or is on the hub. Of a
    repository there may be `texts` alone, as of tokenizers and configs, whose weights are not wanted.

    Raises `InputError`: LM1201 there is none; and what `hub.download` and `mirror.fetch` do.
    """
    if settings.mirror:
        path = mirror.fetch(settings, texts=texts) / (settings.file or "")
        if not path.exists():
            message = f"the mirror {settings.mirror} has no {settings.file}"
            raise InputError(Problem("LM1201", message, help="correct `file`, or fill the mirror with it"))
        return path
    if hub.is_on_hub(settings):
        return hub.outline(settings) if texts else hub.download(settings)
    path = Path(settings.model).expanduser() / (settings.file or "")
    try:
        if not path.exists():
            raise InputError(_not_there(settings, what, path))
    except OSError as error:
        message = f"the {what} cannot be read: {error.strerror}"
        raise InputError(Problem("LM1201", message, where=str(path), help=f"ls -ld {path}")) from error
    return path


def _not_there(settings: WeightsSettings, what: str, path: Path) -> Problem:
    siblings = [str(path.parent / p.name) for p in path.parent.iterdir()] if path.parent.is_dir() else []
    close = close_to(settings.model, [*siblings, *(Path(sibling).name for sibling in siblings)])
    possible = "a name of `lightmill models`, a hub id, a card's path, a diffusers folder or a checkpoint"
    return Problem(
        "LM1201",
        f'{what} "{settings.model}" not found' + (f"; did you mean {close}?" if close else ""),
        help=f"use {possible}" if what == "model" else "name a folder or a file that is there, or a hub id",
    )
