"""The documentation says what the code does: its fields, columns, crash points, commands and links."""

import importlib
import json
import pkgutil
import re
import runpy
from pathlib import Path
from typing import get_args

import pytest
import typer
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from actors.models.card import ModelCard
from actors.models.kinds import Tier
from actors.models.license import License
from actors.models.registry import load_card
from actors.models.settings import CacheSettings, ModelSettings, ShortcutSettings, WeightsSettings, WorkerSettings
from actors.records import SAMPLE_SCHEMA
from actors.settings import (
    UNKNOWN,
    CheckSettings,
    EncodingSettings,
    FilterSettings,
    InputSettings,
    PolicySettings,
    StorageSettings,
)
from cluster import cli
from cluster.cli.app import app
from jobs import index
from jobs.limits import LimitSettings
from jobs.spec import JobSpec

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/*.md")])
CARD_SECTIONS = {"A card of your own": ModelCard, "A licence": License}
SECTIONS = {
    "The job": JobSpec,
    "A model": ModelSettings,
    "Additions": WeightsSettings,
    "Shortcuts": ShortcutSettings,
    "Caches": CacheSettings,
    "Workers": WorkerSettings,
    "Encoding": EncodingSettings,
    "Checks": CheckSettings,
    "Inputs": InputSettings,
    "Policy": PolicySettings,
    "Prompt filter": FilterSettings,
    "Storage": StorageSettings,
    "Limits": LimitSettings,
}
FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
CRASH_POINT = re.compile(r"crash\.point\(\"([\w.]+)\"\)")
SOURCE = re.compile(r"`((?:actors|jobs|cluster|tests)/[\w/]+(?:\.py|/)?)`")
COMMAND = re.compile(r"`lightmill ([^`]+)`")
COMMAND_LINE = re.compile(r"^lightmill ([^#\n]+)", re.MULTILINE)


def page(name):
    return (ROOT / "docs" / name).read_text()


def section(text, title):
    """What stands under a heading, up to the next one."""
    _, _, rest = text.partition(f"# {title}\n")
    assert rest, f"no section {title!r}"
    return re.split(r"^#+ ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def table(text):
    """The cells of the first table, without its two head lines."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def anchors(text):
    """The headings as GitHub makes addresses of them."""
    headings = HEADING.findall(FENCE.sub("", text))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def default_of(field):
    """As the job file's page writes it."""
    default = field.get_default(call_default_factory=True)
    if default is PydanticUndefined:
        return "required"
    if isinstance(default, BaseModel):
        return "see there"
    return "left out" if default is None else f"`{json.dumps(default)}`"


@pytest.mark.parametrize("title", SECTIONS)
def test_the_job_file_page_has_every_field_with_its_default(title):
    rows = {row[0].strip("`"): row[2] for row in table(section(page("job-file.md"), title))}
    assert rows == {name: default_of(field) for name, field in SECTIONS[title].model_fields.items()}


@pytest.mark.parametrize("title", CARD_SECTIONS)
def test_the_models_page_has_every_field_of_a_card_with_its_default(title):
    rows = {row[0].strip("`"): row[2] for row in table(section(page("models.md"), title))}
    assert rows == {name: default_of(field) for name, field in CARD_SECTIONS[title].model_fields.items()}


def test_the_models_page_has_the_cards():
    make_models = runpy.run_path(str(ROOT / "docs" / "make_models.py"))
    assert page("models.md") == make_models["with_tables"](page("models.md")), "run python docs/make_models.py"


def test_the_card_on_the_models_page_is_one(tmp_path):
    path = tmp_path / "my-anime.yaml"
    path.write_text(re.search(r"^```yaml\n(name:.*?)^```$", page("models.md"), re.DOTALL | re.MULTILINE)[1])
    assert load_card(path).name == path.stem


def test_the_metadata_page_has_every_column_with_its_type():
    rows = [(row[0].strip("`"), row[1]) for row in table(section(page("metadata.md"), "Columns"))]
    assert rows == [(field.name, str(field.type)) for field in SAMPLE_SCHEMA]


def test_the_metadata_page_says_what_a_tier_is():
    (said,) = (row[2] for row in table(section(page("metadata.md"), "Columns")) if row[0] == "`model_tier`")
    assert set(re.findall("`([a-z]+)`", said)) == {*get_args(Tier), UNKNOWN}


def test_the_metadata_page_has_every_column_of_the_index():
    rows = [(row[0].strip("`"), row[1]) for row in table(section(page("metadata.md"), "The files of a finished job"))]
    assert rows == [(field.name, str(field.type)) for field in index.SCHEMA]


def test_the_protocol_page_has_every_crash_point():
    sources = [*ROOT.glob("actors/**/*.py"), *ROOT.glob("jobs/**/*.py"), *ROOT.glob("cluster/**/*.py")]
    points = {point for path in sources for point in CRASH_POINT.findall(path.read_text())}
    listed = [row[0].strip("`") for row in table(section(page("protocol.md"), "When a process dies"))]
    assert sorted(listed) == sorted(points)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    text = path.read_text()
    for link in (one or other for one, other in LINK.findall(FENCE.sub("", text))):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), f"{path.name} links to {link}"
        assert not anchor or anchor in anchors(target.read_text()), f"{path.name} links to {link}"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_named_sources_exist(path):
    assert [name for name in SOURCE.findall(path.read_text()) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_commands_and_flags_exist(path):
    for module in pkgutil.iter_modules(cli.__path__):
        importlib.import_module(f"{cli.__name__}.{module.name}")  # which registers its commands
    commands = typer.main.get_command(app)
    text = path.read_text()
    in_blocks = COMMAND_LINE.findall("\n".join(FENCE.findall(text)))
    for line in [*in_blocks, *COMMAND.findall(FENCE.sub("", text))]:
        name, *words = line.split()
        if name.startswith("-"):
            words, command = [name, *words], commands
        else:
            assert name in commands.commands, f"{path.name}: lightmill {line}"
            command = commands.commands[name]
            while words and words[0] in getattr(command, "commands", {}):
                command, *words = command.commands[words[0]], *words[1:]
        known = {flag for parameter in command.params for flag in parameter.opts} | {"--help"}
        flags = {re.match(r"--[\w-]+", word)[0] for word in words if word.startswith("--")}
        assert flags <= known, f"{path.name}: lightmill {line}"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_no_path_of_anybodys_machine(path):
    found = re.findall(r"(?:/work/|/home/|/root/|/Users/|/tmp/)\S*", path.read_text())
    assert found == []


def test_the_picture_grid_is_small():
    assert (ROOT / "docs" / "images" / "demo.webp").stat().st_size < 150_000
