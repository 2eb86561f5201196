"""Policy: whether a job's models may be used for it, by what their cards say. Nothing of a model has to be here.

What is not said is not allowed: the unrestricted tier, an unknown tier or licence, and a licence that allows commercial
use under conditions pass only where the policy names them. A job that says nothing about models may use any.
"""

from collections.abc import Iterator
from pathlib import Path

from actors.errors import Problem
from actors.models.card import ModelCard
from actors.models.folder import read_json
from actors.models.registry import card_line, find_card
from actors.settings import UNKNOWN, PolicySettings

MUST_BE_NAMED = ("unrestricted", UNKNOWN)
"""Tiers that a policy without `tiers` does not allow."""


def breaches(policy: PolicySettings, model: str) -> Iterator[Problem]:
    """What the policy has against the model. Raises `InputError` for a card that cannot be used."""
    card = _card(model)
    if policy.limits_models:
        yield from _tier(policy, model, card)
        yield from _license(policy, model, card)
    if policy.safety_checker == "required" and _brings_checker(model, card) is False:
        yield _refusal(model, card, "safety_checker", "brings no safety checker", "safety_checker: off")


def unknowns(policy: PolicySettings, model: str) -> Iterator[Problem]:
    """That nobody has said what the model may be used for, where the policy does not mind."""
    if not policy.limits_models and _card(model) is None:
        yield Problem(
            "LM1232",
            f"the licence and the content tier of {model} are unknown: it has no card",
            help="nothing to do; a `policy:` in the job file refuses such models, and a card says what is known",
            severity="note",
        )


def _card(model: str) -> ModelCard | None:
    return find_card("fake" if model.startswith("fake:") else model)


def _tier(policy: PolicySettings, model: str, card: ModelCard | None) -> Iterator[Problem]:
    tier = card.tier if card else UNKNOWN
    allowed = tier not in MUST_BE_NAMED if policy.tiers is None else tier in policy.tiers
    if not allowed:
        yield _refusal(model, card, "tier", f"is of the {tier} tier", f"tiers: [..., {tier}]")


def _license(policy: PolicySettings, model: str, card: ModelCard | None) -> Iterator[Problem]:
    license_id = card.license.id if card else UNKNOWN
    named = license_id.lower() in (name.lower() for name in policy.licenses or ())
    by_name = f"licenses: [..., {license_id}]"
    if not named and (policy.licenses is not None or card is None):
        yield _refusal(model, card, "license", f"has the licence {license_id}", by_name)
    elif policy.commercial and card and card.license.commercial == "forbidden":
        yield _refusal(model, card, "license", f"forbids commercial use ({license_id})", "commercial: false")
    elif policy.commercial and card and card.license.commercial == "conditional" and not named:
        condition = f": {card.license.conditions.rstrip('.')}" if card.license.conditions else ""
        said = f"allows commercial use under conditions ({license_id}{condition})"
        yield _refusal(model, card, "license", said, by_name)


def _brings_checker(model: str, card: ModelCard | None) -> bool | None:
    """None where only the worker will see."""
    if card is not None:
        return card.safety_checker
    folder = Path(model).expanduser()
    if not folder.is_dir():
        return None
    entry = read_json(folder / "model_index.json").get("safety_checker")
    return bool(isinstance(entry, list) and entry and entry[0])


def _refusal(model: str, card: ModelCard | None, field: str, what: str, instead: str) -> Problem:
    where, line = card_line(model, card, field) if card else (model, "it has no card")
    return Problem(
        "LM1230",
        f"{model} {what}, which the job's policy does not allow",
        where=where,
        value=line,
        help=f"use another model (`lightmill models`), or allow it: `policy: {{{instead}}}`",
    )
