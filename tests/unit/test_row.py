"""A row of any values becomes a prompt, or a prompt with the reason why it cannot be one."""

import datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.records import Prompt
from actors.settings import OVERRIDES
from actors.tables.columns import use_columns
from actors.tables.references import References
from actors.tables.row import RowParser
from actors.tables.values import real_number, strip_invisible, whole_number

STEERING = [name for name in OVERRIDES if name != "model"]


def read(row, overrides=STEERING, columns=None, lanes=()):
    names = ["prompt", "id", "note", *OVERRIDES]
    parser = RowParser(use_columns(names, columns or {}, overrides), References("/data/prompts.parquet"), lanes)
    return parser.prompt(7, {"prompt": "a cat", **row})


def test_a_row_that_says_nothing_else_leaves_all_to_the_model():
    prompt = read({})
    assert prompt == Prompt(
        source_row=7,
        id="7",
        text="a cat",
        columns=dict.fromkeys(("note", "model", "image", "mask_image", "depth_map")),
        stripped=0,
        problem=None,
    )


def test_numbers_may_be_written_as_text():
    prompt = read(
        {"width": "512", "height": " 768 ", "seed": "007", "guidance_scale": "7.5", "num_inference_steps": "25.0"}
    )
    assert (prompt.width, prompt.height, prompt.seed) == (512, 768, 7)
    assert (prompt.guidance_scale, prompt.num_inference_steps) == (7.5, 25)
    assert prompt.problem is None


def test_an_empty_field_is_silent_as_a_null_is():
    prompt = read({"width": "", "height": "  ", "seed": None, "negative_prompt": ""})
    assert (prompt.width, prompt.height, prompt.seed, prompt.negative_prompt) == (None, None, None, None)
    assert prompt.problem is None


def test_a_column_steers_only_where_it_is_named():
    prompt = read({"width": 513, "seed": -1}, overrides=["height"])
    assert prompt.problem is None
    assert prompt.width is None
    assert prompt.columns["width"] == 513
    assert prompt.columns["seed"] == -1
    assert "height" not in prompt.columns


@pytest.mark.parametrize(
    ("row", "code", "words"),
    [
        ({"prompt": ""}, "LM1003", "empty"),
        ({"prompt": " \n\t"}, "LM1003", "empty"),
        ({"prompt": "\u200b\ufeff"}, "LM1003", "empty"),
        ({"prompt": None}, "LM1004", "null"),
        ({"prompt": ["a", "cat"]}, "LM1004", "list"),
        ({"width": 513, "height": 768}, "LM1006", "513x768: width must be a multiple of 8"),
        ({"height": "wide"}, "LM1006", "not a whole number of pixels"),
        ({"width": 0}, "LM1007", "8 to 4096"),
        ({"height": -8}, "LM1007", "8 to 4096"),
        ({"width": 8192, "height": 8192}, "LM1007", "192 GiB"),
        ({"guidance_scale": float("nan")}, "LM1008", "nan"),
        ({"guidance_scale": "inf"}, "LM1008", "inf"),
        ({"guidance_scale": -1}, "LM1008", "-1"),
        ({"guidance_scale": "high"}, "LM1008", "high"),
        ({"num_inference_steps": 0}, "LM1009", "from 1 to 1000"),
        ({"num_inference_steps": 1001}, "LM1009", "1001"),
        ({"num_inference_steps": 20.5}, "LM1009", "20.5"),
        ({"num_inference_steps": True}, "LM1009", "true"),
        ({"seed": -1}, "LM1010", "between 0 and 2^63-1"),
        ({"seed": 2**63}, "LM1010", "between 0 and 2^63-1"),
        ({"seed": 1.5}, "LM1010", "seed 1.5 is not an exact integer"),
        ({"seed": "1e18"}, "LM1010", "digits"),
        ({"seed": 1e18}, "LM1010", "exact"),
        ({"id": "x" * 1025}, "LM1012", "1,025 bytes"),
        ({"prompt": "x" * 65_537}, "LM1016", "65,537 bytes"),
        ({"negative_prompt": "é" * 40_000}, "LM1016", "80,000 bytes"),
    ],
)
def test_a_bad_row_says_why_and_what_to_do(row, code, words):
    problem = read(row).problem
    assert problem.code == code
    assert words in f"{problem.message} {problem.help}"
    assert problem.where in row
    assert problem.help
    assert len(problem.value) <= 80


def test_the_nearest_sizes_are_named():
    assert read({"width": 513}).problem.help == "use 512 or 520"
    assert read({"width": 5}).problem.help == "use 8"


def test_a_prompt_that_is_too_long_does_not_swell_the_metadata():
    assert len(read({"prompt": "x" * 10_000_000}).text) <= 1000
    assert len(read({"prompt": ["x" * 10_000_000]}).text) <= 1000


def test_a_good_prompt_of_a_bad_row_is_kept_whole():
    prompt = read({"prompt": "x" * 10_000, "seed": "no"})
    assert (prompt.problem.code, len(prompt.text)) == ("LM1010", 10_000)


def test_an_unknown_model_is_named_with_those_that_exist():
    prompt = read({"model": "sdxl"}, overrides=["model"], lanes=("tiny", "fake"))
    assert prompt.problem.code == "LM1013"
    assert "fake, tiny" in prompt.problem.message
    assert read({"model": " tiny "}, overrides=["model"], lanes=("tiny", "fake")).problem is None
    assert read({"model": None}, overrides=["model"], lanes=("tiny", "fake")).problem is None


@pytest.mark.parametrize(
    ("value", "id_"), [("007", "007"), (7, "7"), (7.0, "7"), ("../../v1.5/猫", "../../v1.5/猫"), (None, "7"), ("", "7")]
)
def test_an_id_is_data_and_stays_as_it_is(value, id_):
    assert read({"id": value}).id == id_
    assert read({"id": value}).problem is None


def test_invisible_characters_are_taken_out_and_counted():
    prompt = read({"prompt": "a \u202ered\x00 c\u200bat\u2066"})
    assert (prompt.text, prompt.stripped) == ("a red cat", 4)


@pytest.mark.parametrize("text", ["👩\u200d🚀 on the moon", "❤\ufe0f", "नमस्\u200dते", "line\none\ttab"])
def test_characters_that_carry_meaning_stay(text):
    assert strip_invisible(text) == (text, 0)


def test_a_joiner_between_latin_letters_is_taken_out():
    assert strip_invisible("c\u200dat") == ("cat", 1)


@pytest.mark.parametrize(
    ("value", "whole"),
    [
        (" 7 ", 7),
        ("7.0", 7),
        ("+7", 7),
        (7.0, 7),
        (Decimal("7"), 7),
        ("1e2", None),
        ("1_000", None),
        ("٣", None),
        (2.0**60, None),
    ],
)
def test_whole_numbers(value, whole):
    assert whole_number(value) == whole


@pytest.mark.parametrize(
    ("value", "real"), [("1e2", 100.0), (".5", 0.5), (7, 7.0), ("7,5", None), (True, None), ("1_0", None)]
)
def test_real_numbers(value, real):
    assert real_number(value) == real


cells = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.decimals()
    | st.text()
    | st.binary()
    | st.datetimes()
    | st.dates()
    | st.sampled_from(["512", "nan", "1e400", "\ud800", "-0", "9" * 40, datetime.timedelta(1)]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.dictionaries(st.sampled_from(["prompt", "id", "note", *OVERRIDES]), cells), st.sets(st.sampled_from(OVERRIDES))
)
def test_any_row_is_a_prompt_or_a_prompt_with_a_problem(row, overrides):
    prompt = read(row, overrides=sorted(overrides), lanes=("tiny",))
    assert isinstance(prompt.text, str)
    assert len(prompt.id.encode()) <= 1024
    prompt.text.encode()
    if prompt.problem is None:
        assert prompt.text.strip()
        assert prompt.width is None or (prompt.width % 8 == 0 and 0 < prompt.width <= 4096)
        assert prompt.seed is None or 0 <= prompt.seed < 2**63
        assert prompt.guidance_scale is None or 0 <= prompt.guidance_scale < float("inf")
    else:
        assert str(prompt.problem)
