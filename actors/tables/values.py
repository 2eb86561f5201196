"""Values of a table's cells as text and numbers, however the table spelt them: CSV has only text."""

import json
import math
import re
from decimal import Decimal

EXACT = 2**53
"""Below it every whole number is exact as a float."""
WHOLE = re.compile(r"[+-]?[0-9]{1,30}(?:\.0*)?")
REAL = re.compile(
    r"[+-]?(?:[0-9]{1,30}(?:\.[0-9]*)?|\.[0-9]{1,30})(?:[eE][+-]?[0-9]{1,3})?|[+-]?(?:nan|inf|infinity)", re.I
)

JOINERS = "\u200c\u200d"
INVISIBLE = re.compile(
    "["
    "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"  # control characters; tab and newlines are white space and stay
    "\u00ad\u200b\u2060-\u2064\ufeff"  # soft hyphen, zero-width space, word joiner, invisible operators, BOM
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # bidi marks, embeddings, overrides, isolates
    "\ud800-\udfff"  # halves of surrogate pairs, which no file can hold
    "\U000e0000-\U000e007f"  # tags: whole sentences that nobody sees
    "]"
    # Joiners stay between characters beyond ASCII: they spell Persian and Indic words and join emoji.
    rf"|(?<![^\x00-\x7f])[{JOINERS}]|[{JOINERS}](?![^\x00-\x7f])"
)


def strip_invisible(text: str) -> tuple[str, int]:
    """The text without characters that cannot be seen, and how many there were."""
    return (text, 0) if text.isascii() and text.isprintable() else INVISIBLE.subn("", text)


def as_text(value: object) -> str | None:
    """The value as the text that a person would write for it; JSON for what is neither text nor number."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < EXACT:
        return str(int(value))  # pandas turns whole numbers beside a null into floats: 7.0 is the id "7"
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, (Decimal, int, float)) and not isinstance(value, bool):
        return str(value)
    return json.dumps(value, ensure_ascii=False, default=str)


def is_silent(value: object) -> bool:
    """Whether the row says nothing here: null, or in CSV, which has no null, an empty field."""
    return value is None or (isinstance(value, str) and (not value or value.isspace()))


def whole_number(value: object) -> int | None:
    """The value as a whole number, None where it is not exactly one.

    `" 7 "`, `7.0` and `"7.0"` are 7. `"1e2"` is not 100: such spellings come from spreadsheets, which have rounded the
    seeds that they write so.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) <= EXACT else None
    if isinstance(value, Decimal):
        return int(value) if value.is_finite() and value == value.to_integral_value() and abs(value) < 10**30 else None
    if isinstance(value, str) and WHOLE.fullmatch(value.strip()):
        return int(value.strip().partition(".")[0])
    return None


def real_number(value: object) -> float | None:
    """The value as a float, which may be NaN or infinite; None where it is no number. `"1e2"` is 100."""
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float, Decimal)):
        return _float(value)
    if isinstance(value, str) and REAL.fullmatch(value.strip()):
        return float(value.strip())
    return None


def _float(value: int | float | Decimal) -> float:
    try:
        return float(value)
    except OverflowError:  # a whole number of more than 308 digits
        return math.inf
    except ValueError:  # a signalling NaN
        return math.nan


def clip(text: str, most: int = 80) -> str:
    """At most so many characters, for a message."""
    return text if len(text) <= most else text[: most - 1] + "…"
