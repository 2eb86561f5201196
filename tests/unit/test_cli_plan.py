"""`lightmill plan`: every number that it gives, and everything that it finds."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from builders import finished
from commands import lightmill, plan

ROWS = [
    {"prompt": "a red fox", "uid": "007", "seed": 1, "width": 512, "height": 512, "cfg": 7.5, "model": "fake"},
    {"prompt": "a red fox", "uid": "008", "seed": 1, "width": 512, "height": 512, "cfg": 7.5, "model": "fake"},
    {"prompt": "an owl", "uid": "009", "seed": 2, "width": 513, "height": 512, "cfg": 7.5, "model": "fake"},
    {"prompt": " ", "uid": "010", "seed": 3, "width": 256, "height": 256, "cfg": 7.5, "model": "fake"},
    {"prompt": "a tram\u202e", "uid": "011", "seed": None, "width": None, "height": None, "cfg": 1.0, "model": "fake"},
    {"prompt": "a heron", "uid": "012", "seed": 4, "width": None, "height": None, "cfg": None, "model": "other"},
]


@pytest.fixture
def job(tmp_path):
    """A job over a table with some of everything, that allows failures."""
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "prompts.parquet")
    document = {
        "prompts": "prompts.parquet",
        "output": "out",
        "columns": {"id": "uid"},
        "overrides": ["seed", "width", "height"],
        "images_per_prompt": 2,
        "shard_size": 4,
        "models": [{"model": "fake"}, {"model": "tiny"}],
        "limits": {"max_failed_share": 1.0},
    }
    path = tmp_path / "job.yaml"
    path.write_text(json.dumps(document))
    return path


def test_json_has_every_number(job):
    said = lightmill("plan", job, "--json")
    found = said.json
    assert said.status == 0
    assert (found["rows"], found["images"], found["shards"], found["objects"]) == (6, 24, 6, 12)
    assert [(lane["model"], lane["rows"], lane["width"]) for lane in found["lanes"]] == [
        ("fake", 6, 256),
        ("tiny", 6, 64),
    ]
    assert (found["committed"], found["refusals"]) == (None, [])
    report = found["report"]
    assert (report["mode"], report["checked_rows"], report["bad_rows"], report["repeated_rows"]) == ("all", 6, 2, 1)
    assert {(size["width"], size["height"]): size["rows"] for size in report["sizes"]} == {
        (512, 512): 2,
        (None, None): 2,
    }
    assert report["unused_parameters"] == {"cfg": "guidance_scale", "model": "model"}
    counts = {problem["code"]: (problem["count"], problem["severity"]) for problem in report["problems"]}
    assert counts == {"LM1003": (1, "error"), "LM1006": (1, "error"), "LM1015": (1, "warning")}


def test_a_person_reads_the_same(job):
    said = lightmill("plan", job)
    lines = {line[:12].strip() + ": " + line[12:] for line in said.out.splitlines()}
    assert said.status == 0
    assert {
        "model: fake, 256x256, 1 step, guidance 0: 6 rows",
        "model: tiny, 64x64, 6 steps, guidance 7.5: 6 rows",
        "images: 24 in 6 shards",
        "checked: 6 of 6 rows; 2 cannot be made",
        "batches of: 512x512: 2 rows",
        "duplicates: 1 row with the prompt and overrides of an earlier row",
        'not used: column "cfg" looks like guidance_scale; '
        "--override guidance_scale --column guidance_scale=cfg would use it",
    } <= lines
    assert said.codes == ["LM1003", "LM1006", "LM1015"]


def test_a_model_by_name_is_planned_without_its_weights(tmp_path):
    prompts = tmp_path / "prompts.csv"
    prompts.write_text("prompt\na\n")
    words = ["plan", "--prompts", prompts, "--output", tmp_path / "out", "--model", "waifu-diffusion-1-5-beta2"]
    lines = lightmill(*words).out.splitlines()
    assert "model       waifu-diffusion-1-5-beta2, 768x768, 40 steps, guidance 7.5: 1 row" in lines
    assert "licence     faipl-1.0-sd; tier anime" in lines
    assert any(line.startswith("negative    worst quality") for line in lines)
    (lane,) = lightmill(*words, "--negative-prompt", "", "--json").json["lanes"]
    assert (lane["license"], lane["tier"], lane["negative_prompt"]) == ("faipl-1.0-sd", "anime", "")


def test_the_words_that_it_suggests_are_taken(tmp_path):
    prompts = tmp_path / "prompts.csv"
    prompts.write_text("prompt,cfg\na,7\n")
    said = plan(prompts, "--override", "guidance_scale", "--column", "guidance_scale=cfg", "--json")
    assert said.json["report"]["unused_parameters"] == {}
    assert said.json["report"]["sizes"][0]["guidance_scale"] == 7


def test_routed_rows_are_checked_against_the_models(tmp_path):
    prompts = tmp_path / "prompts.csv"
    prompts.write_text("prompt,model\na,fake\nb,other\n")
    said = plan(prompts, "--override", "model")
    assert (said.status, said.codes) == (3, ["LM1023", "LM1013"])
    assert "other" in said.err


def test_it_says_what_is_there_already(tmp_path):
    spec = finished(tmp_path)
    job = tmp_path / "job.yaml"
    job.write_text(json.dumps(spec.dump()))
    assert lightmill("plan", job, "--json").json["committed"] == 3
    assert "3 of 3 shards: nothing is left" in lightmill("plan", job).out


def test_it_writes_nothing(job, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    lightmill("plan", job)
    assert sorted(tmp_path.rglob("*")) == before


def test_problems_beyond_twenty_are_counted(tmp_path):
    prompts = tmp_path / "prompts.csv"
    prompts.write_text("prompt,id\n" + "a,b,c\n" * 50)
    said = plan(prompts, "--json")
    assert said.status == 3
    assert said.codes == ["LM1017"] * 20
    assert "31 more lines" in said.err
    assert sum(problem["count"] for problem in said.json["problems"]) == 50


@pytest.mark.parametrize(("mode", "checked"), [("none", 0), ("all", 6), ("sample", 6), ("auto", 6)])
def test_how_many_rows_are_looked_at(job, mode, checked):
    assert lightmill("plan", job, "--check", mode, "--json").json["report"]["checked_rows"] == checked
