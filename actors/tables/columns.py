"""ColumnUse: which columns of a table mean something to lightmill, and which are carried along."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from actors.errors import InputError, Problem
from actors.settings import OVERRIDES, Override

INPUTS: tuple[Override, ...] = ("image", "mask_image", "depth_map")
"""Columns that name files."""
LOOKALIKES = {
    "steps": "num_inference_steps",
    "cfg": "guidance_scale",
    "cfg_scale": "guidance_scale",
    "guidance": "guidance_scale",
    "negative": "negative_prompt",
}
"""Names under which other tools write what steers the generation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnUse:
    """The table's own name for each of ours."""

    prompt: str
    id: str | None
    """None: the table has none, and a row's number is its id."""
    overrides: Mapping[Override, str]
    carried: tuple[str, ...]
    """Every other column of the table, also those that look like parameters and are not named as overrides; and those
    that name input images."""


def use_columns(names: Sequence[str], columns: Mapping[str, str], overrides: Iterable[Override]) -> ColumnUse:
    """Find our columns among the table's. Raises `InputError` (LM1001) naming every one that is missing."""
    steering: dict[Override, str] = {name: columns.get(name, name) for name in overrides}
    wanted = {"prompt": columns.get("prompt", "prompt")} | {str(ours): theirs for ours, theirs in steering.items()}
    if "id" in columns:
        wanted["id"] = columns["id"]
    missing = [_missing(ours, theirs, names) for ours, theirs in wanted.items() if theirs not in names]
    if missing:
        raise InputError(*missing)
    id_column = wanted.get("id", "id" if "id" in names else None)
    # Where an input image lies is worth keeping, and the metadata has no other column for it.
    used = {*wanted.values(), id_column} - {steering[name] for name in INPUTS if name in steering}
    return ColumnUse(
        prompt=wanted["prompt"],
        id=id_column,
        overrides=steering,
        carried=tuple(name for name in names if name not in used),
    )


def unused_parameters(use: ColumnUse) -> dict[str, str]:
    """Carried columns that look as if they were meant to steer the generation, and which parameter each looks like."""
    looks = {name: _parameter(name) for name in use.carried}
    return {name: ours for name, ours in looks.items() if ours and ours not in use.overrides}


def _parameter(name: str) -> str | None:
    plain = name.strip().lower().replace(" ", "_")
    return plain if plain in OVERRIDES else LOOKALIKES.get(plain)


def _missing(ours: str, theirs: str, names: Sequence[str]) -> Problem:
    lowered = {name.lower(): name for name in reversed(names)}
    close = difflib.get_close_matches(theirs.lower(), lowered, n=1)
    found = ", ".join(f'"{name}"' for name in names[:30]) + (", ..." if len(names) > 30 else "")
    guess = lowered[close[0]] if close else "NAME"
    return Problem(
        "LM1001",
        f'column "{theirs}" not found; found {found}',
        help=f"did you mean --column {ours}={guess}" if close else f"say which column it is: --column {ours}=NAME",
    )
