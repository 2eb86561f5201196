"""Every error code has one meaning, which docs/errors.md tells; and every problem says what to do."""

import ast
import functools
import re
from pathlib import Path

import pytest

from actors import errors
from actors.errors import LightmillError

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "errors.md").read_text()
SOURCES = [path for package in ("actors", "jobs", "cluster") for path in (ROOT / package).rglob("*.py")]
ENTRY = re.compile(r"^\| (LM\d{4}) \|", re.MULTILINE)
WITHOUT_HELP = {
    "LM1309",  # says what a store answered, of which nothing is known
    "LM1314",  # is mended by the driver
    "LM1320",
    "LM1321",  # are caught, or seen along with another
    "LM1601",
    "LM1602",
    "LM1603",
    "LM1604",
    "LM1605",
    "LM1610",  # are words in a row of the metadata
    "LM1608",  # has its reason as value
    "LM1802",
    "LM1803",
    "LM1804",
    "LM1805",
    "LM1806",
    "LM1807",  # are findings, not wishes
}


@functools.cache
def problems():
    """Every Problem that the code makes with a code in place: its code, and the names of what it is given."""
    return list(_problems())


def _problems():
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Name(id="Problem"), args=[ast.Constant(value=code), *others]):
                    given = {keyword.arg for keyword in node.keywords} | ({"help"} if len(others) > 3 else set())
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", code, given


def used():
    return {code for path in SOURCES for code in re.findall(r'"(LM\d{4})"', path.read_text())}


def test_the_page_has_the_codes_of_the_code_and_no_others():
    listed = ENTRY.findall(PAGE)
    assert sorted(listed) == sorted(set(listed)), "a code stands on the page twice"
    assert set(listed) == used()


def test_every_problem_says_what_to_do():
    assert [place for place, code, given in problems() if "help" not in given and code not in WITHOUT_HELP] == []


def test_the_page_has_every_exit_status():
    statuses = {
        kind.exit_code for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, LightmillError)
    }
    listed = re.findall(r"^\| ([\d, ]+) \| \w", PAGE, re.MULTILINE)
    assert statuses | {0, 130, 143} == {int(number) for cell in listed for number in cell.split(",") if len(number) < 5}


@pytest.mark.parametrize("code", sorted(used()))
def test_a_code_belongs_to_one_kind_of_error(code):
    """The same code in several places is one meaning where those are of one package, or named here."""
    packages = {place.partition("/")[0] for place, found, _ in problems() if found == code}
    assert len(packages) <= 1 or code in {
        *("LM1102", "LM1105", "LM1230", "LM1313", "LM1501", "LM1502", "LM1610", "LM1614"),
    }
