"""Filling: a mirror made of a model, and of all that its card takes from elsewhere."""

from pathlib import Path

from actors.errors import InputError, Problem
from actors.models.folder import refuse_gaps
from actors.models.mirror import MAIN, fill, part_url, read
from actors.models.registry import find_card
from actors.models.revisions import look_up, pinned
from actors.models.settings import ModelSettings
from actors.models.trust import weight_files
from actors.models.weights import TEXTS_ALONE, arrive, with_card


def fill_mirror(model: str, revision: str | None, url: str) -> int:
    """Copy the model of this name, hub id or path there; how many files that were. Pickles are copied, not read.

    Raises `InputError` as `arrive` does, and LM1206 where a part of the model, or its weights, did not come: such as
    pickles that no card allows.
    """
    card = find_card(model)
    settings = ModelSettings(model=model, revision=revision, allow_pickle=card is not None and card.pickle)
    asked = with_card(settings, card)
    words = with_card(pinned(settings, look_up([settings])), card)
    whole = arrive(words)
    _refuse_hollow(whole, words.model)
    files, lists = 0, {}
    for field, part in words.parts.items():
        if field == "config":
            continue  # it comes with lightmill
        below, texts = part_url(url, field), field in TEXTS_ALONE
        revision = asked.parts[field].revision or MAIN
        files += fill(arrive(part, field, texts=texts), below, part, asked=revision, texts=texts)
        lists[field], _ = read(part.model_copy(update={"mirror": below}))
    return files + fill(whole, url, words, asked=asked.revision or MAIN, parts=lists)


def _refuse_hollow(path: Path, model: str) -> None:
    """What came of a hub id whose weights lightmill does not fetch is a folder of texts."""
    if path.is_dir():
        refuse_gaps(path)
    if not weight_files(path):
        message = f"{model} has no weights in safetensors, and no card of it allows pickles"
        raise InputError(Problem("LM1206", message, where=str(path), help="mirror a model that has safetensors"))
