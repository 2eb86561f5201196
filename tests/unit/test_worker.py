import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest

from actors.encoding import decode
from actors.errors import Problem, Stopped
from actors.metadata import read_metadata
from actors.models.fake import FakeModel
from actors.models.model import ModelInfo
from actors.orders import resolve
from actors.records import Beat, Prompt, sample_key
from actors.settings import EncodingSettings, PolicySettings
from actors.tables.seeds import derive_seed
from actors.worker import Worker
from lanes import make_order, make_recipe

COLOURS = [f"colour {row}" for row in range(10)]
CONDEMNED = Problem("LM1606", "killed three workers")


def run(recipe, order):
    """Everything a worker says while it makes a shard: the beats, the report, and its rows by key."""
    *beats, report = Worker(recipe, "w0").run(order)
    return beats, report, {row["key"]: row for row in read_metadata(report.metadata).table.to_pylist()}


def image(recipe, row):
    data = (Path(recipe.output) / row["file"]).read_bytes()
    return data[row["file_offset"] : row["file_offset"] + row["file_length"]]


def key(row, image_index=0):
    return sample_key(row, image_index, 0)


def test_every_promised_image_is_one_row_and_its_bytes_are_where_the_row_says(tmp_path):
    recipe = make_recipe(tmp_path, COLOURS, images_per_prompt=2)

    _, report, rows = run(recipe, make_order(7, start=3, index=5))

    assert sorted(rows) == [key(row, image_index) for row in range(3, 7) for image_index in (0, 1)]
    assert (report.rows, report.failed, report.batch_size) == (8, 0, 4)
    for row in rows.values():
        assert sha256(image(recipe, row)).hexdigest() == row["sha256"]
        assert decode(image(recipe, row)).shape == (16, 16, 3)
        assert row["seed"] == derive_seed(7, row["id"], row["image_index"])
        assert (row["status"], row["shard"], row["attempt"]) == ("ok", 5, report.attempt)
    assert [file.file for file in report.files] == [f"images/000000005-{report.attempt}.tar"]


def test_an_image_says_what_its_row_says_unless_told_not_to(tmp_path):
    speaking = make_recipe(tmp_path / "a", ["red"])
    silent = dataclasses.replace(speaking, encoding=EncodingSettings(format="png", metadata=False))
    (said,), (unsaid,) = (
        (image(recipe, row) for row in run(recipe, make_order(1))[2].values()) for recipe in (speaking, silent)
    )
    seed = derive_seed(7, "0", 0)
    assert f"red\nSteps: 1, CFG scale: 0, Seed: {seed}, Size: 16x16, Model: fake, Version: ".encode() in said
    assert b"digitalsourcetype/algorithmicMedia<" in said
    assert [chunk in unsaid for chunk in (b"tEXt", b"iTXt")] == [False, False]


def test_other_columns_of_the_table_are_carried(tmp_path):
    recipe = make_recipe(tmp_path, [{"prompt": "a", "split": "train", "width": "wide"}])

    _, _, rows = run(recipe, make_order(1))

    assert (rows[key(0)]["split"], rows[key(0)]["input_width"]) == ("train", "wide")


def test_each_batch_is_announced_before_it_is_on_the_device(tmp_path):
    recipe = make_recipe(tmp_path, COLOURS)

    beats, _, _ = run(recipe, make_order(10))

    everyone = [key(row) for row in range(10)]
    assert [beat.announced for beat in beats] == [
        tuple(everyone[0:4]),
        tuple(everyone[0:8]),
        tuple(everyone[4:10]),
        (),
    ]
    assert [beat.done for beat in beats] == [0, 0, 4, 10]


def test_a_bad_row_of_the_table_is_a_failed_row(tmp_path):
    _, report, rows = run(make_recipe(tmp_path, ["fine", " "], images_per_prompt=2), make_order(2))

    assert (report.rows, report.failed) == (4, 2)
    assert [rows[key(1, n)]["error_code"] for n in (0, 1)] == ["LM1003", "LM1003"]


def test_a_request_that_raises_is_found_and_its_neighbours_keep_their_bytes(tmp_path):
    prompts = [*COLOURS[:5], "boom", *COLOURS[6:]]

    _, report, rows = run(make_recipe(tmp_path / "a", prompts, model="fake:fail=boom"), make_order(10))
    _, _, undisturbed = run(make_recipe(tmp_path / "b", prompts), make_order(10))

    bad = rows.pop(key(5))
    assert (bad["status"], bad["error_code"]) == ("failed", "LM1603")
    assert bad["error"] == "the model raised RuntimeError: fail=boom is in the prompt"
    assert report.failed == 1
    assert {k: (row["sha256"], row["batch_size"]) for k, row in rows.items()} == {
        k: (row["sha256"], row["batch_size"]) for k, row in undisturbed.items() if k != key(5)
    }


def test_a_prompt_that_raises_where_it_is_encoded_ahead_fails_alone(tmp_path, monkeypatch):
    own = FakeModel.launch

    def launch(self, batch, ahead=()):
        if any(request.prompt.text == COLOURS[9] for request in (*batch.requests, *ahead)):
            raise RuntimeError("no such colour")
        return own(self, batch, ahead)

    monkeypatch.setattr(FakeModel, "launch", launch)
    _, _, rows = run(make_recipe(tmp_path, COLOURS), make_order(len(COLOURS)))
    assert {name for name, row in rows.items() if row["status"] != "ok"} == {key(9)}


def test_out_of_memory_halves_the_batch_for_the_rest_of_the_workers_life(tmp_path):
    worker = Worker(make_recipe(tmp_path, COLOURS, model="fake:oom=2"), "w0")

    *_, first = worker.run(make_order(7))
    *beats, second = worker.run(make_order(10, start=7, index=1))

    sizes = read_metadata(first.metadata).table["batch_size"].to_pylist()
    assert sorted(sizes) == [1, 2, 2, 2, 2, 2, 2]
    assert (first.failed, first.batch_size, second.batch_size) == (0, 2, 2)
    assert len(beats[0].announced) == 2


def test_out_of_memory_with_a_single_image_is_a_failed_row(tmp_path):
    _, report, rows = run(make_recipe(tmp_path, COLOURS[:3], model="fake:oom=0"), make_order(3))

    assert report.failed == 3
    assert {row["error_code"] for row in rows.values()} == {"LM1604"}


def test_a_blank_image_gets_one_more_seed_in_a_batch_of_the_same_size(tmp_path):
    recipe = make_recipe(tmp_path, ["a", "blink", "c"], model="fake:blink=blink")

    _, report, rows = run(recipe, make_order(3))

    row = rows[key(1)]
    assert (row["status"], report.failed) == ("ok", 0)
    assert (row["seed"], row["seed_rejected"]) == (derive_seed(7, "1", 0, attempt=1), derive_seed(7, "1", 0))
    assert row["batch_size"] == 3


@pytest.mark.parametrize(("option", "what"), [("blank", "black"), ("nan", "NaN or infinite")])
def test_an_image_that_stays_blank_is_a_failed_row_with_both_seeds(tmp_path, option, what):
    _, _, rows = run(make_recipe(tmp_path, ["a", "void"], model=f"fake:{option}=void"), make_order(2))

    row = rows[key(1)]
    assert (row["status"], row["error_code"]) == ("failed", "LM1601")
    assert row["error"] == f"the image is {what} with both seeds"
    assert row["seed_rejected"] == derive_seed(7, "1", 0)
    assert row["file"] is None
    assert rows[key(0)]["status"] == "ok"


def test_a_seed_that_the_row_gives_is_never_changed(tmp_path):
    rows = [{"prompt": "blink", "seed": 41}]
    recipe = make_recipe(tmp_path, rows, model="fake:blink=blink", overrides=("seed",), images_per_prompt=2)

    _, _, made = run(recipe, make_order(1))

    assert [(row["seed"], row["seed_rejected"], row["status"]) for row in made.values()] == [
        (41, None, "failed"),
        (42, None, "failed"),
    ]


def test_blank_images_are_kept_on_request_but_not_those_that_are_not_finite(tmp_path):
    recipe = make_recipe(tmp_path, ["void", "hole"], model="fake:blank=void,nan=hole", checks="keep")

    _, _, rows = run(recipe, make_order(2))

    assert (rows[key(0)]["status"], rows[key(0)]["seed_rejected"]) == ("ok", None)
    assert not decode(image(recipe, rows[key(0)])).any()
    assert (rows[key(1)]["status"], rows[key(1)]["error"]) == ("failed", "the image is NaN or infinite with its seed")


def test_what_the_safety_checker_flags_is_filtered(tmp_path):
    _, report, rows = run(make_recipe(tmp_path, ["a", "nude"], model="fake:nsfw=nude"), make_order(2))

    row = rows[key(1)]
    assert (row["status"], row["error_code"], row["nsfw"], row["file"]) == ("filtered", "LM1605", True, None)
    assert (rows[key(0)]["nsfw"], report.filtered, report.failed) == (False, 1, 0)
    assert row["nsfw_score"] > 0 > rows[key(0)]["nsfw_score"]


@pytest.mark.parametrize(
    ("flagged", "status", "code"), [("keep", "ok", None), ("drop", "filtered", "LM1605"), ("fail", "failed", "LM1605")]
)
def test_the_policy_says_what_becomes_of_a_flagged_image(tmp_path, flagged, status, code):
    recipe = make_recipe(tmp_path, ["nude"], model="fake:nsfw=nude", policy=PolicySettings(flagged=flagged))
    _, report, rows = run(recipe, make_order(1))
    row = rows[key(0)]
    assert (row["status"], row["error_code"], row["nsfw"], row["file"] is None) == (
        status,
        code,
        True,
        code is not None,
    )
    assert (report.failed, report.filtered) == (int(status == "failed"), int(status == "filtered"))
    if flagged == "keep":
        assert decode(image(recipe, row)).any()


def test_a_suspect_has_the_device_to_itself_and_keeps_its_batch_size(tmp_path):
    recipe = make_recipe(tmp_path, COLOURS)

    beats, _, rows = run(recipe, make_order(10, alone=frozenset({key(1), key(6)})))

    announced = [beat.announced for beat in beats]
    assert announced[:3] == [(key(1),), (key(6),), (key(0), key(2), key(3))]
    assert {rows[key(row)]["batch_size"] for row in range(8)} == {4}
    assert all(row["status"] == "ok" for row in rows.values())


def test_a_condemned_image_is_not_tried_and_moves_nobody(tmp_path):
    _, report, rows = run(make_recipe(tmp_path, COLOURS), make_order(10, condemned={key(9): CONDEMNED}))

    assert (rows[key(9)]["status"], rows[key(9)]["error_code"]) == ("failed", "LM1606")
    assert rows[key(8)]["batch_size"] == 2
    assert report.failed == 1


def test_a_verdict_on_the_shard_fails_all_its_images_without_the_device(tmp_path):
    beats, report, rows = run(make_recipe(tmp_path, COLOURS), make_order(10, verdict=CONDEMNED))

    assert (report.failed, report.files) == (10, ())
    assert beats == [Beat((), 10, 10)]
    assert {row["error_code"] for row in rows.values()} == {"LM1606"}


def test_only_what_is_asked_for_is_made_and_reported(tmp_path):
    recipe = make_recipe(tmp_path, [*COLOURS, " "])

    _, report, rows = run(recipe, make_order(11, only=frozenset({key(2), key(9)})))

    assert set(rows) == {key(2), key(9)}
    assert (rows[key(2)]["batch_size"], rows[key(9)]["batch_size"]) == (4, 2)
    assert report.rows == 2


def test_stop_ends_the_shard_and_leaves_nothing_behind(tmp_path):
    recipe = make_recipe(tmp_path, COLOURS)
    worker = Worker(recipe, "w0")
    items = worker.run(make_order(10))
    next(items)
    next(items)

    worker.stop()

    with pytest.raises(Stopped):
        list(items)
    assert not [path for path in Path(recipe.output).rglob("*") if path.is_file()]


def test_a_shard_that_is_dropped_halfway_frees_the_worker(tmp_path):
    worker = Worker(make_recipe(tmp_path, COLOURS), "w0")
    items = worker.run(make_order(10))
    next(items)
    next(items)
    items.close()

    *_, report = worker.run(make_order(10))

    assert report.rows == 10


def test_a_shard_that_is_made_elsewhere_ends_after_its_batch_and_the_others_go_on(tmp_path):
    recipe = make_recipe(tmp_path, COLOURS)
    worker = Worker(recipe, "w0")
    shard = worker.run(make_order(10, index=1))
    next(shard)
    worker.drop(1)
    with pytest.raises(Stopped, match="LM1610"):
        list(shard)
    assert not list(Path(recipe.output).rglob("*.tar"))
    *_, report = worker.run(make_order(10, index=2))
    assert report.rows == 10
    *_, report = worker.run(make_order(10, index=1))  # and it may come again
    assert report.rows == 10


def test_a_shard_that_waits_for_its_turn_can_be_dropped_meanwhile(tmp_path):
    worker = Worker(make_recipe(tmp_path, COLOURS), "w0")
    first, second = worker.run(make_order(10, index=1)), worker.run(make_order(10, index=2))
    next(first)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(next, second)
        while not waiting.done():  # what is dropped before it has come is not
            worker.drop(2)
            time.sleep(0.01)
        with pytest.raises(Stopped, match="LM1610"):
            waiting.result(30)
    *_, report = first
    assert report.rows == 10


def test_two_shards_at_once_take_turns_and_the_seconds_are_counted_once(tmp_path):
    worker = Worker(make_recipe(tmp_path, COLOURS * 10), "w0")
    reports = {}

    def make(index):
        *_, reports[index] = worker.run(make_order(50 * index + 50, start=50 * index, index=index))

    threads = [threading.Thread(target=make, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [reports[index].rows for index in (0, 1)] == [50, 50]
    assert [reports[index].failed for index in (0, 1)] == [0, 0]


def test_a_size_that_only_the_model_refuses_is_a_failed_row(tmp_path):
    info = ModelInfo(model="big", width=1024, height=1024, size_multiple=16)
    prompts = [Prompt(source_row=0, id="0", text="a", height=520), Prompt(source_row=1, id="1", text="b")]

    assignment = resolve(make_order(2), prompts, make_recipe(tmp_path, ["a", "b"]), info)

    (refusal,) = assignment.refused
    assert refusal.problem.code == "LM1006"
    assert refusal.problem.message == "1024x520: height must be a multiple of 16 for big"
    assert refusal.problem.help == "use 512 or 528"
    assert assignment.wanted == {key(1)}


CHILD = """
import sys
from pathlib import Path
from dataclasses import replace
from actors.worker import Worker
from lanes import make_order, make_recipe
recipe = make_recipe(Path(sys.argv[1]), ["a", "b", "bad", "d"], model=sys.argv[2], batch_size=2)
for item in Worker(replace(recipe, batch_timeout_seconds=1), "w0").run(make_order(4)):
    print(item.announced, flush=True)
"""


def in_child(tmp_path, model):
    here = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{here}{os.pathsep}{here / 'tests'}"}
    command = [sys.executable, "-c", CHILD, str(tmp_path), model]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_whatever_kills_the_process_was_announced(tmp_path):
    child = in_child(tmp_path, "fake:kill=bad")

    assert child.returncode == -signal.SIGKILL
    assert key(2) in child.stdout.splitlines()[-1]


def test_a_batch_past_its_deadline_ends_the_process_and_says_where_it_was(tmp_path):
    child = in_child(tmp_path, "fake:hang=bad")

    assert child.returncode == 1
    assert "Timeout" in child.stderr
    assert "in launch" in child.stderr
    assert key(2) in child.stdout.splitlines()[-1]
