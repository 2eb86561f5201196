"""Policy: whether a job's models may be used for it, by what their cards say. Nothing of a model has to be here.

What is not said is not allowed: the unrestricted tier, an unknown tier or licence, and a licence that allows commercial
use under conditions pass only where the policy names them. A job that says nothing about models may use any.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from actors.errors import Problem
from actors.models.card import ModelCard, is_hub_id
from actors.models.folder import read_json
from actors.models.hub import is_on_hub
from actors.models.registry import card_line, find_card, shipped_card_of
from actors.models.settings import ModelSettings, WeightsSettings
from actors.models.weights import TEXTS_ALONE
from actors.settings import UNKNOWN, PolicySettings

MUST_BE_NAMED = ("unrestricted", UNKNOWN)
"""Tiers that a policy without `tiers` does not allow."""


@dataclass(frozen=True, slots=True)
class _Weights:
    """A model, or what a job adds to one, and the card that speaks of it."""

    name: str
    """As the job has it."""
    card: ModelCard | None = None
    why_unknown: str = "it has no card"


def breaches(policy: PolicySettings, settings: ModelSettings) -> Iterator[Problem]:
    """What the policy has against the model and its added parts. Raises `InputError` for a card that cannot be used."""
    model = _model(settings)
    if policy.limits_models:
        for weights in (model, *_known_otherwise(model), *_parts(settings)):
            yield from _tier(policy, weights)
            yield from _license(policy, weights)
    if policy.safety_checker == "required" and _brings_checker(model) is False:
        yield _refusal(model, "safety_checker", "brings no safety checker", "safety_checker: off")


def unknowns(policy: PolicySettings, settings: ModelSettings) -> Iterator[Problem]:
    """That nobody has said what the model may be used for, or two cards something else, where no policy minds."""
    model = _model(settings)
    if policy.limits_models:
        return
    for known in _known_otherwise(model):
        assert known.card is not None
        yield Problem(
            "LM1233",
            f"{model.name} says something else of a model than lightmill's own card, {known.card.name}, which has "
            f"the licence {known.card.license.id} and the {known.card.tier} tier",
            help="nothing to do if you know better; a `policy:` in the job file holds it to both",
            severity="note",
        )
    if model.card is None:
        yield Problem(
            "LM1232",
            f"the licence and the content tier of {model.name} are unknown: {model.why_unknown}",
            help="nothing to do; a `policy:` in the job file refuses such models, and a card says what is known",
            severity="note",
        )


def _model(settings: ModelSettings) -> _Weights:
    return _described(settings, find_card(settings.model))


def _known_otherwise(model: _Weights) -> Iterator[_Weights]:
    """The same model by the card that comes with lightmill, where a card of the user's says something else."""
    known = shipped_card_of(model.card) if model.card else None
    if model.card and known and (known.license.id, known.tier) != (model.card.license.id, model.card.tier):
        yield _Weights(f"{model.name} ({known.name})", known)


def _parts(settings: ModelSettings) -> Iterator[_Weights]:
    """What is drawn with beside the model's own weights: a config and a tokenizer hold none."""
    for field, part in settings.parts.items():
        if field not in TEXTS_ALONE:
            found = _described(part, find_card(part.model) if is_on_hub(part) else None)
            yield replace(found, name=f"{part.model} ({field})")


def _described(settings: WeightsSettings, card: ModelCard | None) -> _Weights:
    """A card speaks of the revision and the file that it names, and of no other."""
    if card is None:
        return _Weights(settings.model)
    if field := card.silent_on(settings):
        return _Weights(settings.model, None, f"its `{field}` is not that of its card")
    return _Weights(settings.model, card)


def _tier(policy: PolicySettings, weights: _Weights) -> Iterator[Problem]:
    tier = weights.card.tier if weights.card else UNKNOWN
    allowed = tier not in MUST_BE_NAMED if policy.tiers is None else tier in policy.tiers
    if not allowed:
        yield _refusal(weights, "tier", f"is of the {tier} tier", f"tiers: [..., {tier}]")


def _license(policy: PolicySettings, weights: _Weights) -> Iterator[Problem]:
    card = weights.card
    license_id = card.license.id if card else UNKNOWN
    named = license_id.lower() in (name.lower() for name in policy.licenses or ())
    by_name = f"licenses: [..., {license_id}]"
    if not named and (policy.licenses is not None or card is None):
        yield _refusal(weights, "license", f"has the licence {license_id}", by_name)
    elif policy.commercial and card and card.license.commercial == "forbidden":
        yield _refusal(weights, "license", f"forbids commercial use ({license_id})", "commercial: false")
    elif policy.commercial and card and card.license.commercial == "conditional" and not named:
        condition = f": {card.license.conditions.rstrip('.')}" if card.license.conditions else ""
        said = f"allows commercial use under conditions ({license_id}{condition})"
        yield _refusal(weights, "license", said, by_name)


def _brings_checker(model: _Weights) -> bool | None:
    """None where only the worker will see."""
    if model.card is not None:
        return model.card.safety_checker
    folder = Path(model.name).expanduser()
    if is_hub_id(model.name) or not folder.is_dir():
        return None
    entry = read_json(folder / "model_index.json").get("safety_checker")
    return bool(isinstance(entry, list) and entry and entry[0])


def _refusal(weights: _Weights, field: str, what: str, instead: str) -> Problem:
    name, card = weights.name, weights.card
    where, line = card_line(name, card, field) if card else (name, weights.why_unknown)
    return Problem(
        "LM1230",
        f"{name} {what}, which the job's policy does not allow",
        where=where,
        value=line,
        help=f"use another model (`lightmill models`), or allow it: `policy: {{{instead}}}`",
    )
