"""Revisions: which commits a job's models stand for. Looked up once, so that all its workers load the same."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from actors.errors import InputError, Problem
from actors.models import mirror
from actors.models.card import ModelCard
from actors.models.hub import COMMIT, commit_of, is_on_hub
from actors.models.registry import FindCard, find_card
from actors.models.settings import ModelSettings, WeightsSettings
from actors.models.weights import with_card

Commits = Mapping[str, str]
"""By `hub id@revision`, as the job and its cards have them; the hash of its list by the URL of a mirror."""
_Weights = TypeVar("_Weights", bound=WeightsSettings)


def look_up(models: Iterable[ModelSettings], *, frozen: bool = False) -> dict[str, str]:
    """The commits of all revisions that are none themselves, and what the mirrors hold.

    Raises `InputError` with all that is wrong: LM1208 a card that cannot be used, LM1223 such a revision where the job
    is frozen, and what `hub.commit_of` and `mirror.read` do.
    """
    commits: dict[str, str] = {}
    problems: list[Problem] = []
    everywhere: list[WeightsSettings] = []
    for settings in models:
        try:
            everywhere += _everything(settings)
            commits |= read_mirrors(settings, commits)
        except InputError as error:
            problems += error.problems
    for weights in everywhere:
        try:
            commits |= _of_hub(_pinned(weights, commits), frozen=frozen)
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(*dict.fromkeys(problems))
    return commits


def read_mirrors(settings: ModelSettings, commits: Commits = MappingProxyType({})) -> Commits:
    """What the mirrors of a model and its parts hold, as far as they can be read from here; of `commits`, what is known
    already. Raises `InputError` as `mirror.read` does."""
    known = dict(commits)
    for weights in _everything(settings):
        if weights.mirror:
            known |= _of_mirror(_pinned(weights, known))
    return known


def _everything(settings: ModelSettings) -> list[WeightsSettings]:
    words = with_card(settings, find_card(settings.model))
    return [words, *words.parts.values()]


def pinned(settings: ModelSettings, commits: Commits, find: FindCard = find_card) -> ModelSettings:
    """The job's words, with commits for revisions: also for what its card alone names."""
    words = with_card(settings, find(settings.model))
    alone = {name: _pinned(part, commits) for name in ("config", "tokenizer", "vae") if (part := getattr(words, name))}
    whole = _pinned(words, commits)
    return settings.model_copy(
        update={
            **alone,
            "mirror_sha256": whole.mirror_sha256,
            "revision": whole.revision,
            "loras": tuple(_pinned(lora, commits) for lora in settings.loras),
            "textual_inversions": tuple(_pinned(one, commits) for one in settings.textual_inversions),
        }
    )


def pinned_card(card: ModelCard | None, commits: Commits) -> ModelCard | None:
    """A card that names no revision, with the commit that `main` stood for, as it speaks of no other branch."""
    if card is None or card.revision or card.id is None:
        return card
    return card.model_copy(update={"revision": commits.get(f"{card.id}@main")})


def _pinned(weights: _Weights, commits: Commits) -> _Weights:
    known = {
        "revision": commits.get(_key(weights), weights.revision),
        "mirror_sha256": weights.mirror_sha256 or commits.get(weights.mirror or ""),
    }
    return weights.model_copy(update=known)


def _of_mirror(weights: WeightsSettings) -> Commits:
    url = weights.mirror
    assert url is not None
    if "://" not in url and not Path(url, mirror.LIST).is_file():
        return {}  # a folder of the workers' machines, or of nobody's, which they will say
    found, contents = mirror.read(weights)
    below = {mirror.part_url(url, field): sha256 for field, sha256 in contents.parts.items()}
    commit = {_key(weights): contents.revision} if contents.revision and _floats(weights) else {}
    return {url: found, **below, **commit}


def _of_hub(weights: WeightsSettings, *, frozen: bool) -> Commits:
    if weights.mirror or not is_on_hub(weights) or not _floats(weights):
        return {}
    return {_key(weights): _refuse(weights) if frozen else commit_of(weights)}


def _floats(weights: WeightsSettings) -> bool:
    return not COMMIT.fullmatch(weights.revision or "")


def _key(weights: WeightsSettings) -> str:
    return f"{weights.model}@{weights.revision or 'main'}"


def _refuse(weights: WeightsSettings) -> str:
    raise InputError(
        Problem(
            "LM1223",
            f"{_key(weights)} can move, and the job is frozen",
            help="name a commit as its `revision`, or run without --frozen",
        )
    )
