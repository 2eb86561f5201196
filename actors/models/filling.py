"""Filling: a mirror made of a model, and of all that its card takes from elsewhere."""

from actors.models.mirror import fill, part_url, read
from actors.models.registry import find_card
from actors.models.revisions import look_up, pinned
from actors.models.weights import TEXTS_ALONE, arrive, with_card
from actors.settings import ModelSettings


def fill_mirror(model: str, revision: str | None, url: str) -> int:
    """Copy the model of this name, hub id or path there; how many files that were. Pickles are copied, not read.

    Raises `InputError` as `arrive` does.
    """
    card = find_card(model)
    settings = ModelSettings(model=model, revision=revision, allow_pickle=card is not None and card.pickle)
    words = with_card(pinned(settings, look_up([settings])), card)
    files, lists = 0, {}
    for field, part in words.parts.items():
        if field == "config":
            continue  # it comes with lightmill
        below, texts = part_url(url, field), field in TEXTS_ALONE
        files += fill(arrive(part, field, texts=texts), below, part, texts=texts)
        lists[field], _ = read(part.model_copy(update={"mirror": below}))
    return files + fill(arrive(words), url, words, parts=lists)
