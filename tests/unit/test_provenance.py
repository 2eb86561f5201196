"""The card of a dataset says what its images may be used for, what was left out, and how to make them again."""

import json
from pathlib import Path

import pytest

from actors.models.license import License, licenses
from actors.models.registry import find_card
from actors.storage.opening import open_bucket
from builders import finished, make_manifest, make_spec
from jobs import index
from jobs.provenance import provenance

TOTALS = index.Totals(10, 7, 1, 2, 1, 1, 1000, {"LM1030": 2}, {"unrestricted": 4, "unknown": 3}, 1)


def said(folder, lanes=({"model": "fake"},), totals=TOTALS, cards=None, **changes):
    manifest = make_manifest(make_spec(folder, **changes))
    return provenance(manifest.model_copy(update={"cards": cards or [None] * len(lanes)}), totals, lanes)


def test_a_finished_job_counts_tiers_and_what_was_flagged_and_filtered(tmp_path):
    prompts = ["a fox", "nude", "nude too", "gore", "an owl"]
    spec = finished(tmp_path, prompts, model="fake:nsfw=nude", prompt_filter={"patterns": ["gore"]})
    totals = index.read_totals(open_bucket(spec.output))
    assert (totals.tiers, totals.flagged, totals.ok, totals.filtered) == ({"clean": 2}, 2, 2, 3)
    card = (Path(spec.output) / "README.md").read_text()
    assert "Images by content tier of their model: 2 clean." in card
    assert "Prompt filter: 1 pattern; it left out 1 image." in card
    assert "it flagged 2 images. Such images are left out." in card
    assert "[Creative Commons Zero 1.0](https://creativecommons.org/publicdomain/zero/1.0/) | `fake:nsfw=nude`" in card


@pytest.mark.parametrize("name", licenses())
def test_every_licence_is_told_with_its_conditions(tmp_path, name):
    known = licenses()[name]
    lanes = [{"model": "one", "model_license": name}, {"model": "two", "model_license": name}]
    card = said(tmp_path, lanes, cards=[find_card("tiny").model_copy(update={"license": License(**known)})] * 2)
    (row,) = (line for line in card.splitlines() if known["link"] in line)
    assert known["name"] in row
    assert "`one`, `two`" in row
    assert row.endswith(f"| {known.get('conditions', '')} |")


def test_what_is_unknown_is_called_so(tmp_path):
    card = said(tmp_path, [{"model": "/models/sd", "model_license": "unknown"}, {"model": "no-row"}])
    assert "| unknown | `/models/sd`, `no-row` | unknown | unknown | unknown | |" in card
    assert "4 unrestricted, 3 unknown" in card


def test_filters_and_policy_are_told(tmp_path):
    (tmp_path / "blocked.txt").write_text("gore\nnew york\n")
    asked = {"block_list": str(tmp_path / "blocked.txt"), "max_length": 1000}
    policy = {"tiers": ["clean", "sfw"], "commercial": True, "flagged": "keep"}
    card = said(tmp_path, prompt_filter=asked, policy=policy)
    assert "Prompt filter: a block list of 2 entries (SHA-256 `" in card
    assert "a longest prompt of 1,000 characters; it left out 2 images." in card
    assert "it flagged 1 image. Such images are kept, with `nsfw` true in their rows." in card
    assert "Policy on models: tiers clean, sfw; commercial use." in card
    assert "new york" not in card


def test_a_job_without_any_says_so(tmp_path):
    card = said(tmp_path, policy={"safety_checker": "off"}, encoding={"metadata": False})
    for sentence in (
        "Prompt filter: none.",
        "not asked.",
        "Policy on models: none stated.",
        "say nothing of themselves",
    ):
        assert sentence in card


def test_totals_of_an_older_index_are_read():
    older = {
        "images": 1,
        "ok": 1,
        "failed": 0,
        "filtered": 0,
        "shards": 1,
        "data_files": 1,
        "data_bytes": 9,
        "errors": {},
    }
    assert index.Totals(**json.loads(json.dumps(older))).tiers == {}
