"""The `.json` beside each image of a tar: the sample's row, as far as it says what the image is."""

import base64
import json
import math
from collections.abc import Mapping
from datetime import date, time
from typing import Any

LEFT_OUT = frozenset(
    {
        *("file", "file_offset", "file_length", "sha256", "shard"),  # where it lies: known by whoever reads it
        *("attempt", "worker", "created_at", "generate_seconds"),  # how this attempt went
    }
)
"""Columns that would make the bytes of a tar differ between two attempts at the same images, or say nothing here."""
SIMPLE = frozenset({str, int, float, bool})
"""Types in which nothing can be empty."""


def sidecar(row: Mapping[str, Any]) -> bytes:
    """The row as compact JSON, without what is empty.

    Null columns are left out because `datasets` takes its types from the first five samples, and a column that was
    null there fails the load when a value comes.
    """
    present = {name: value for name, value in row.items() if value is not None and name not in LEFT_OUT}
    if not SIMPLE.issuperset(map(type, present.values())):
        present = _without_empty(present)
    try:
        text = _encode(present)
    except ValueError:  # NaN or infinity, for which JSON has no number
        text = _encode(_without_empty(present))
    return text.encode()


def _without_empty(mapping: Mapping[Any, object]) -> dict[str, object]:
    inner = ((str(name), _filled(value)) for name, value in mapping.items())
    return {name: value for name, value in inner if value is not None}


def _filled(value: object) -> object:
    """The value without what is empty, however deep; None where nothing is left."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return _without_empty(value) or None
    if isinstance(value, list | tuple):
        return [item for item in map(_filled, value) if item is not None] or None
    return value


def _plain(value: object) -> str:
    """What JSON has no word for, as text."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, date | time):
        return value.isoformat()
    return str(value)


_encode = json.JSONEncoder(
    separators=(",", ":"), ensure_ascii=False, check_circular=False, allow_nan=False, default=_plain
).encode
