"""Provenance: what a dataset card says of rights, of what was left out, and of how to make it all again."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from actors.models.license import License
from actors.settings import UNKNOWN
from actors.tables.prompt_filter import block_list_sha256
from jobs.index import Totals
from jobs.manifest import Manifest

COMMERCIAL = {"allowed": "yes", "conditional": "with conditions", "forbidden": "no"}
FLAGGED = {
    "keep": "Such images are kept, with `nsfw` true in their rows.",
    "drop": "Such images are left out.",
    "fail": "Such images count as failed.",
}

Lane = Mapping[str, Any]
"""What the first row of a lane says of its model."""


def provenance(manifest: Manifest, totals: Totals, lanes: Sequence[Lane]) -> str:
    """Three sections of the card."""
    left_out = "\n".join(f"- {line}" for line in _left_out(manifest, totals))
    versions = ", ".join(f"{library} {version}" for library, version in manifest.versions.items())
    return f"""## Rights

| licence of a model | models | commercial use | restricts uses | share alike | conditions |
|---|---|---|---|---|---|
{_licenses(manifest, lanes)}

The texts behind the links are what counts; no legal advice. Images by content tier of their model: {_tiers(totals)}.

## Left out

{left_out}

## Make it again

`manifest.json` has the job as it was run, and each row the seed and every parameter of its image. The same job into a
new output makes the same images: the same bytes on one kind of device with equal `batch_size`, `threads` and versions,
else the same picture within rounding. The versions were {versions}. {_labels(manifest)}"""


def _licenses(manifest: Manifest, lanes: Sequence[Lane]) -> str:
    models: dict[License | str, list[str]] = {}
    for lane, card in zip(lanes, manifest.cards, strict=True):
        said = lane.get("model_license") or UNKNOWN
        known = card.license if card and card.license.id == said else said
        models.setdefault(known, []).append(f"`{lane['model']}`")
    return "\n".join(_license_row(known, dict.fromkeys(under)) for known, under in models.items())


def _license_row(known: License | str, models: Iterable[str]) -> str:
    named = ", ".join(models)
    if isinstance(known, str):
        return f"| {known} | {named} | unknown | unknown | unknown | |"
    restricted, alike = ("yes" if asked else "no" for asked in (known.use_restrictions, known.share_alike))
    name = f"[{known.name}]({known.link})"
    return f"| {name} | {named} | {COMMERCIAL[known.commercial]} | {restricted} | {alike} | {known.conditions} |"


def _tiers(totals: Totals) -> str:
    return ", ".join(f"{images:,} {tier}" for tier, images in totals.tiers.items()) or "none"


def _left_out(manifest: Manifest, totals: Totals) -> Iterator[str]:
    asked, policy = manifest.spec.prompt_filter, manifest.spec.policy
    parts = []
    if manifest.blocked:
        sha256 = (block_list_sha256(manifest.blocked) or "")[:16]
        parts.append(f"a block list of {_count(len(manifest.blocked), 'entry', 'entries')} (SHA-256 `{sha256}`)")
    if asked.patterns:
        parts.append(_count(len(asked.patterns), "pattern", "patterns"))
    if asked.max_length:
        parts.append(f"a longest prompt of {asked.max_length:,} characters")
    caught = _count(totals.errors.get("LM1030", 0), "image", "images")
    yield f"Prompt filter: {', '.join(parts)}; it left out {caught}." if parts else "Prompt filter: none."
    if policy.safety_checker == "off":
        yield "Safety checker: not asked."
    else:
        flagged = _count(totals.flagged, "image", "images")
        yield f"Safety checker: asked where a model has one; it flagged {flagged}. {FLAGGED[policy.flagged]}"
    stated = {"tiers": policy.tiers, "licences": policy.licenses}
    words = [f"{name} {', '.join(allowed)}" for name, allowed in stated.items() if allowed is not None]
    words += ["commercial use" if policy.commercial else ""]
    yield f"Policy on models: {'; '.join(filter(None, words)) or 'none stated'}."


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _labels(manifest: Manifest) -> str:
    if not manifest.spec.encoding.metadata:
        return "The image files say nothing of themselves."
    return "Each image file says that a model made it, and how (IPTC digital source type, `parameters`)."
