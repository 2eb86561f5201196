"""Revisions: which commits a job's models stand for. Looked up once, so that all its workers load the same."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from actors.errors import InputError, Problem
from actors.models.hub import COMMIT, commit_of, is_on_hub
from actors.models.mirror import LIST, list_sha256
from actors.models.registry import find_card
from actors.models.weights import with_card
from actors.settings import ModelSettings, WeightsSettings

Commits = Mapping[str, str]
"""By `hub id@revision`, as the job and its cards have them; the hash of its list by the URL of a mirror."""
_Weights = TypeVar("_Weights", bound=WeightsSettings)


def look_up(models: Iterable[ModelSettings], *, frozen: bool = False) -> dict[str, str]:
    """The commits of all revisions that are none themselves.

    Raises `InputError` with all that is wrong: LM1208 a card that cannot be used, LM1223 such a revision where the job
    is frozen, and what `hub.commit_of` does.
    """
    models = list(models)
    commits: dict[str, str] = {}
    problems: list[Problem] = []
    for url in dict.fromkeys(words.mirror for words in models if words.mirror and not words.mirror_sha256):
        if "://" not in url and not Path(url, LIST).is_file():
            continue  # a folder of the workers' machines, or of nobody's, which they will say
        try:
            commits[url] = list_sha256(url)
        except InputError as error:
            problems += error.problems
    floating: list[WeightsSettings] = []
    for settings in models:
        try:
            floating += _floating(settings)
        except InputError as error:
            problems += error.problems
    for weights in floating:
        if _key(weights) in commits:
            continue
        try:
            commits[_key(weights)] = _refuse(weights) if frozen else commit_of(weights)
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(*dict.fromkeys(problems))
    return commits


def pinned(settings: ModelSettings, commits: Commits) -> ModelSettings:
    """The job's words, with commits for revisions: also for what its card alone names."""
    words = with_card(settings, find_card(settings.model))
    alone = {name: _pinned(part, commits) for name in ("config", "tokenizer", "vae") if (part := getattr(words, name))}
    return settings.model_copy(
        update={
            **alone,
            "mirror_sha256": settings.mirror_sha256 or commits.get(settings.mirror or ""),
            "revision": _pinned(words, commits).revision,
            "loras": tuple(_pinned(lora, commits) for lora in settings.loras),
            "textual_inversions": tuple(_pinned(one, commits) for one in settings.textual_inversions),
        }
    )


def _pinned(weights: _Weights, commits: Commits) -> _Weights:
    commit = commits.get(_key(weights))
    return weights.model_copy(update={"revision": commit}) if commit else weights


def _floating(settings: ModelSettings) -> Iterator[WeightsSettings]:
    words = with_card(settings, find_card(settings.model))
    for weights in (*([] if words.mirror else [words]), *words.parts.values()):
        if is_on_hub(weights) and not COMMIT.fullmatch(weights.revision or ""):
            yield weights


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
