"""Registry: the model cards that come with lightmill, and those that users bring along."""

import difflib
import functools
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from actors.errors import InputError, Problem
from actors.faults import Document, line, not_yaml
from actors.models.card import PATH, ModelCard
from actors.models.kinds import Task, Tier

SUFFIXES = (".yaml", ".yml")
"""How the path of a user's own card ends."""
FindCard = Callable[[str], ModelCard | None]
"""How a model's card is found by what the job calls it: as it is now, or as it was when the job began."""
PARTS = ("vae", "tokenizer")
"""What a card may take from elsewhere."""
CARD = Document("the card", ModelCard, unknown_key="LM1208", wrong_value="LM1208")
_SHIPPED = Path(__file__).with_name("cards")
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster, where PyYAML was built with libyaml


def find_card(model: str) -> ModelCard | None:
    """The card of this name, of this hub id, or at this path; None for a model that has none.

    Raises `InputError` (LM1208) for a card of the user's that cannot be used.
    """
    if model.partition(":")[0] == "fake":
        model = "fake"  # options may follow, paths among them
    if model.endswith(SUFFIXES):
        return load_card(Path(model).expanduser())
    if model.startswith(PATH):
        return None
    if "/" not in model:
        shipped = _SHIPPED / f"{model}.yaml"
        return _load_once(shipped) if shipped.is_file() else None
    return next((card for card in shipped_cards() if model in (card.id, *card.mirrors, *card.aliases)), None)


@functools.cache
def shipped_cards() -> tuple[ModelCard, ...]:
    """All that come with lightmill, by name."""
    return tuple(_load_once(path) for path in sorted(_SHIPPED.glob("*.yaml"), key=lambda path: path.stem))


def shipped_card_of(card: ModelCard) -> ModelCard | None:
    """The card that comes with lightmill of the model that this one describes: of its repository, if there are several
    that of its file."""
    known = [one for one in shipped_cards() if card.id and card.id in (one.id, *one.mirrors, *one.aliases)]
    return next((one for one in known if one.file == card.file), known[0] if known else None)


def list_cards(tier: Tier | None = None, task: Task | None = None, license: str | None = None) -> list[ModelCard]:  # noqa: A002
    """The shipped cards of this tier, for this task and under this licence, each where it is given."""
    return [
        card
        for card in shipped_cards()
        if (tier is None or card.tier == tier)
        and (task is None or task in card.tasks)
        and (license is None or card.license.id.lower() == license.lower())
    ]


def require_card(model: str) -> ModelCard:
    """As `find_card`. Raises `InputError` (LM1201) where there is none."""
    card = find_card(model)
    if card is None:
        close = close_to(model)
        raise InputError(
            Problem(
                "LM1201",
                f'there is no card of "{model}"' + (f"; did you mean {close}?" if close else ""),
                help="`lightmill models` lists them",
            )
        )
    return card


def close_to(model: str, others: Iterable[str] = ()) -> str | None:
    """The name that was meant, where one is close enough."""
    ids = {name for card in shipped_cards() for name in (card.name, card.id, *card.mirrors, *card.aliases) if name}
    names = {name.lower(): name for name in [*sorted(ids), *others]}
    close = difflib.get_close_matches(model.lower(), names, n=1, cutoff=0.75)
    return names[close[0]] if close else None


def load_card(path: Path) -> ModelCard:
    """A card from its file. Raises `InputError` (LM1208) with all that is wrong with it.

    Folders that it names are relative to its own.
    """
    try:
        loader = _LOADER(path.read_text(encoding="utf-8"))
        root = loader.get_single_node()
        document = loader.construct_document(root) if root else None
    except yaml.YAMLError as error:
        said, where = not_yaml(error, str(path))
        raise InputError(Problem("LM1208", f"the card is not YAML: {said}", where=where, help="mend it")) from None
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InputError(
            Problem("LM1208", f"the card cannot be read: {why}", where=str(path), help="name a YAML file that exists")
        ) from None
    except (ValueError, RecursionError) as error:  # a date that is none, an endless nest
        raise InputError(
            Problem("LM1208", f"the card cannot be read: {error}", where=str(path), help="write `key: value` lines")
        ) from None
    if not isinstance(document, dict):
        raise InputError(Problem("LM1208", "the card is not a map", where=str(path), help="write `key: value` lines"))
    try:
        return ModelCard.model_validate(_with_places(document, path))
    except ValidationError as error:
        raise InputError(*CARD.problems(error, lambda loc: f"{path}{line(root, loc)}")) from None


def card_line(model: str, card: ModelCard, field: str) -> tuple[str, str]:
    """Where the card that the job calls `model` says this, `path:line`, and the line; a field that it leaves out has
    its path alone."""
    path = Path(model).expanduser() if model.endswith(SUFFIXES) else _SHIPPED / f"{card.name}.yaml"
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if text.startswith(f"{field}:"):
            return f"{path}:{number}", text.partition(" #")[0].strip()
    return str(path), ""


@functools.cache
def _load_once(path: Path) -> ModelCard:
    return load_card(path)


def _with_places(values: dict[str, Any], path: Path) -> dict[str, Any]:
    """What a card in this file says, with its folders from the top, and where the tokenizers are that it names."""
    own: dict[str, Any] = {
        name: _with_places(part, path) for name, part in values.items() if name in PARTS and isinstance(part, dict)
    }
    tokenizer = values.get("tokenizer")
    if isinstance(tokenizer, str) and (shipped := _SHIPPED / f"{tokenizer}.yaml").is_file():
        own["tokenizer"] = _load_once(shipped).model_dump(include={"id", "revision"})
    if isinstance(folder := values.get("id"), str) and folder.startswith(PATH):
        own["id"] = os.path.normpath(path.absolute().parent / Path(folder).expanduser())
    return {**values, **own}
