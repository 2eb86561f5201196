"""The benchmarks compare like with like, and their table says what it should."""

import json
from functools import partial

import numpy as np
import pytest
from PIL import Image

from actors.encoding import decode
from actors.models.tiny import tiny_folder
from benchmarks import contest, goals
from benchmarks.baselines.loops import hand_tuned, saved, thrown_away
from benchmarks.baselines.painters import Engine, Null, Pipe
from benchmarks.baselines.task import Task
from benchmarks.contest import Outcome
from benchmarks.goals import GOALS, Goal, cell, figure
from benchmarks.solo_job import solo_job
from benchmarks.timing import interleaved, write_results


@pytest.fixture
def task(tmp_path):
    words = {"images": 3, "width": 64, "height": 64, "steps": 2, "guidance": 7.5, "batch": 2}
    return Task(model="tiny", folder=str(tiny_folder()), **words).placed(tmp_path)


def test_all_loops_make_the_same_pictures(task, tmp_path):
    engine, pipe = Engine(task), Pipe(task)
    prompts, seeds = map(list, zip(*task.rows()[:2], strict=True))
    wanted = engine.pixels(prompts, seeds)
    assert np.array_equal(pipe.pixels(prompts, seeds), wanted)
    for loop, folder in ((saved, tmp_path / "saved"), (hand_tuned, tmp_path / "tuned")):
        folder.mkdir()
        loop(pipe, task.rows(), task.batch, folder)
        files = sorted(folder.iterdir())
        assert len(files) == task.images
        assert np.array_equal(decode(files[1].read_bytes()), wanted[1])


def test_a_job_is_asked_for_the_same(task):
    job = task.job(shard_size=2)
    assert (job["overrides"], job["prompts"]) == (["seed"], str(task.table))
    (model,) = job["models"]
    assert (model["num_inference_steps"], model["guidance_scale"], model["batch_size"]) == (2, 7.5, 2)


def test_no_model_makes_pictures_that_differ(tmp_path):
    null = Null(Task(model="fake:natural=1", images=2, width=64, height=64))
    first, second = null.images(["one", "another"], [1, 2])
    assert isinstance(first, Image.Image)
    assert not np.array_equal(np.asarray(first), np.asarray(second))


def test_contenders_take_turns_and_a_ratio_is_of_one_round(capsys):
    order = []

    def contender(name, seconds):
        def run(folder):
            order.append(name)
            assert list(folder.iterdir()) == []
            return Outcome(10, seconds.pop(0), 20.0)

        return run

    found = contest.contest({"a": contender("a", [1.0, 2.0, 4.0]), "b": contender("b", [2.0, 4.0, 4.0])}, 3)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert contest.ratio(found, "a", "b") == 2.0
    assert contest.ratio(found, "a", "b", "overall") == 1.0
    assert [row["contender"] for row in contest.summary(found, "a")] == ["a", "b"]


def test_the_round_that_does_not_count_may_do_less():
    done = []
    candidates = {name: partial(done.append, name) for name in ("a", "b")}
    first = {name: partial(done.append, f"less of {name}") for name in ("a", "b")}
    seconds = interleaved(candidates, 2, first)
    assert done == ["less of b", "less of a", "a", "b", "b", "a"]
    assert {name: len(rounds) for name, rounds in seconds.items()} == {"a": 2, "b": 2}


def test_a_run_that_measures_less_keeps_what_it_did_not_measure(tmp_path):
    def written():
        return json.loads((tmp_path / "found.json").read_text())["rows"]

    write_results("found", [{"kind": "a", "size": 1, "ms": 5}, {"kind": "a", "size": 2, "ms": 6}], folder=tmp_path)
    write_results("found", [{"kind": "a", "size": 2, "ms": 7}], by=["kind", "size"], folder=tmp_path)
    assert [(row["size"], row["ms"]) for row in written()] == [(1, 5), (2, 7)]
    assert all(row["date"] for row in written())
    write_results("found", [{"kind": "b", "size": 1, "ms": 8}], folder=tmp_path)
    assert written() == [{"kind": "b", "size": 1, "ms": 8}]


def test_a_loop_is_timed_without_its_preparations(task, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    outcome = contest.looped(thrown_away, Null(Task(model="fake:pace=0.02", images=1, width=8, height=8)), task)(empty)
    assert outcome.images == 3
    assert 0.06 <= outcome.steady == outcome.wall


def test_waiting_is_a_share_of_what_is_not_loading():
    seconds = {"load": 4.0, "warm_up": 1.0, "denoise": 9.0, "encode_wait": 0.6, "upload_wait": 0.4}
    assert contest.waiting_share(Outcome(1, 1.0, 1.0, seconds)) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("must", "aim", "measured", "reached"),
    [
        (0.97, 0.99, 0.995, "aim"),
        (0.97, 0.99, 0.98, "must"),
        (0.97, 0.99, 0.9, "no"),
        (0.005, 0.001, 0.0, "aim"),
        (0.005, 0.001, 0.004, "must"),
        (0.005, 0.001, 0.01, "no"),
        (1, 2, None, "not taken yet"),
    ],
)
def test_how_far_a_goal_is(must, aim, measured, reached):
    assert Goal("this", must, aim, "none", figure("this")).reached(measured) == reached


def test_a_figure_that_nobody_took_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(goals, "RESULTS", tmp_path)
    document = {"figures": {"named": 2}, "rows": [{"to": "s3", "ratio": 0.5}, {"to": "folder", "ratio": 0.9}]}
    (tmp_path / "found.json").write_text(json.dumps(document))
    assert Goal("", 1, 2, "found", figure("named")).measured() == 2
    assert Goal("", 1, 2, "found", cell("ratio", to="folder")).measured() == 0.9
    assert Goal("", 1, 2, "found", figure("other")).measured() is None
    assert Goal("", 1, 2, "found", cell("ratio", to="tape")).measured() is None
    assert Goal("", 1, 2, "absent", figure("named")).measured() is None


def test_the_table_goes_into_the_page_again_and_again(tmp_path, monkeypatch):
    monkeypatch.setattr(goals, "RESULTS", tmp_path)
    table = goals.lines()
    assert len(table) == len(GOALS)
    page = goals.with_table(f"before\n{goals.BEGIN}stale words{goals.END}\nafter", table)
    assert "stale words" not in page
    assert page.startswith("before")
    assert page.endswith("after")
    assert goals.with_table(page, table) == page


def test_the_page_says_what_was_measured():
    assert goals.with_table(goals.PAGE.read_text(), goals.lines()) == goals.PAGE.read_text(), (
        "run python -m benchmarks.goals docs"
    )


def test_a_job_without_ray_makes_and_commits_all(tmp_path):
    outcome = solo_job(Task(model="fake", images=10, width=16, height=16, batch=2), shard_size=4)(tmp_path)
    assert sorted(images for _, images in outcome.commits) == [2, 4, 4]  # two are in hand: the short one may come first
    assert all(rate > 0 for rate in outcome.windows)
    assert len(list((tmp_path / "out" / "metadata").glob("*.parquet"))) == 3
    assert sum(outcome.seconds.values()) == pytest.approx(outcome.wall, abs=0.5)
