"""The JSON beside an image says what the image is, the same for every attempt, and loads everywhere."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from actors.sidecar import LEFT_OUT, sidecar

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.datetimes() | st.decimals()
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=8
)


def refuse(name):
    raise AssertionError(f"{name} is not JSON")


def has_empty(value):
    if isinstance(value, dict):
        return not value or any(map(has_empty, value.values()))
    if isinstance(value, list):
        return not value or any(map(has_empty, value))
    return value is None


@given(row=st.dictionaries(st.text(), values, max_size=6))
def test_any_row_becomes_json_without_anything_empty(row):
    read = json.loads(sidecar(row), parse_constant=refuse)
    assert read.keys() <= row.keys()
    assert not any(map(has_empty, read.values()))


def test_values_keep_their_kind():
    row = {"prompt": 'a "cat" ❄\n', "seed": 2**53 - 1, "guidance_scale": 7.0, "nsfw": False, "tags": ["x", None]}
    assert json.loads(sidecar(row)) == {**row, "tags": ["x"]}
    assert b'"guidance_scale":7.0' in sidecar(row)


def test_what_json_has_no_word_for_is_text():
    row = {
        "when": datetime(2026, 1, 2, 3, tzinfo=UTC),
        "day": date(2026, 1, 2),
        "price": Decimal("1.50"),
        "raw": b"\xff",
    }
    assert json.loads(sidecar(row)) == {
        "when": "2026-01-02T03:00:00+00:00",
        "day": "2026-01-02",
        "price": "1.50",
        "raw": "/w==",
    }


def test_two_attempts_have_the_same_sidecar():
    row = {"key": "k", "prompt": "a cat"}
    attempts = [{**row, **dict.fromkeys(LEFT_OUT, number)} for number in (1, 2)]
    assert sidecar(attempts[0]) == sidecar(attempts[1]) == sidecar(row)
