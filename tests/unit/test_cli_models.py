"""`lightmill models`: the list, its filters, and one card."""

import subprocess
import sys

import pytest
import yaml

from actors.models.card import ModelCard
from actors.models.registry import find_card, load_card, shipped_cards
from commands import lightmill


def test_the_list_has_every_model_with_what_decides_about_it():
    said = lightmill("models")
    lines = {line.split()[0]: line for line in said.out.splitlines()}

    assert (said.status, list(lines)) == (0, ["name", *(card.name for card in shipped_cards())])
    assert lines["commoncanvas-xl-c"].split()[:4] == ["commoncanvas-xl-c", "clean", "CC-BY-SA-4.0", "1024x1024"]
    assert f"{len(lines) - 1} models" in said.err


def test_the_list_is_filtered():
    said = lightmill("models", "--tier", "clean", "--license", "cc0-1.0", "--json")

    assert [card["name"] for card in said.json["models"]] == ["demo", "demo-v", "fake", "tiny"]
    assert [card["name"] for card in lightmill("models", "--task", "upscale", "--json").json["models"]] == [
        "stable-diffusion-x4-upscaler"
    ]


def test_a_filter_that_fits_none_is_no_error():
    said = lightmill("models", "--license", "nobodys")

    assert (said.status, len(said.out.splitlines())) == (0, 1)
    assert "0 models" in said.err


@pytest.mark.parametrize("words", [["--tier", "cleen"], ["--task", "upscaling"]])
def test_an_unknown_tier_or_task_is_told_with_those_there_are(words):
    said = lightmill("models", *words)

    assert (said.status, said.codes) == (2, ["LM1105"])
    assert f"'{words[1]}' is not one of '" in said.err


@pytest.mark.parametrize("name", ["stable-diffusion-2-1", "waifu-diffusion-1-4-ckpt", "tiny"])
def test_what_is_shown_is_a_card(name, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(lightmill("models", "show", name).out)

    assert load_card(path) == find_card(name)
    assert lightmill("models", "show", path).out == path.read_text()


def test_a_card_is_shown_as_json_by_its_hub_id():
    said = lightmill("models", "show", "stabilityai/stable-diffusion-2-1", "--json").json

    assert said.pop("schema_version") == 1
    assert ModelCard.model_validate(said) == find_card("stable-diffusion-2-1")


def test_an_unknown_model_is_told_with_its_neighbour():
    said = lightmill("models", "show", "stable-difusion-2-1")

    assert (said.status, said.codes) == (3, ["LM1201"])
    assert "did you mean stable-diffusion-2-1?" in said.err


def test_a_bad_card_is_told_with_all_that_is_wrong(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"name": "Mine", "tier": "clean", "licence": "CC0-1.0"}))

    said = lightmill("models", "show", path)

    assert (said.status, set(said.codes)) == (3, {"LM1208"})
    assert "did you mean license?" in said.err


def test_the_command_line_reads_no_card_until_it_is_asked():
    code = (
        "import sys; import cluster.cli.models;"
        "sys.exit(' '.join({'pydantic', 'yaml', 'torch', 'actors.models.card'} & set(sys.modules)))"
    )

    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)

    assert told.stderr.strip() == ""
