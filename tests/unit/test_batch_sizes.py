"""Batch sizes that nobody has to know: found out by doubling, and remembered."""

import json
import logging
from contextlib import contextmanager

import numpy as np
import pytest

from actors import batch_sizes
from actors.batch_sizes import best_size, recall, remember
from actors.clock import Clock
from actors.device import Device
from actors.errors import OutOfMemory, Problem
from actors.metadata import read_metadata
from actors.models.model import Images, ModelInfo
from actors.models.settings import ModelSettings
from actors.worker import Worker
from lanes import make_batch, make_order, make_recipe, make_request


def saturating(most_useful):
    """Seconds on a device that takes so many images in the time of one."""
    return lambda size: max(1.0, size / most_useful)


@pytest.mark.parametrize("most_useful", [1, 2, 16, 64])
def test_the_smallest_batch_that_fills_the_device_is_chosen(most_useful):
    assert best_size(saturating(most_useful)) == most_useful


def test_a_gain_of_a_per_cent_is_none():
    assert best_size(lambda size: {1: 1.0, 2: 1.5, 4: 2.98}[size]) == 2


def test_what_does_not_fit_is_not_chosen():
    def seconds(size):
        if size > 8:
            raise OutOfMemory(Problem("LM1604", "no room"))
        return 1.0

    assert best_size(seconds) == 8


def test_a_slow_device_is_not_tried_out_for_hours(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(batch_sizes, "monotonic", lambda: now[0])

    def seconds(size):
        now[0] += 40.0
        return 1.0

    assert best_size(seconds) == 2
    assert now[0] == 80


class Compiled:
    """A model of which a batch takes a second each for texts and decoding, and two for its two steps."""

    info, inside, seen = ModelInfo(model="compiled", num_inference_steps=30), False, ()

    def warm_up(self): ...

    @contextmanager
    def uncompiled(self):
        self.inside = True
        yield
        self.inside = False

    def launch(self, batch, ahead=()):
        self.seen += (self.inside,)
        seconds = {"text": 1.0, "denoise": 2.0, "decode": 1.0}
        return lambda: Images(np.zeros((1, 8, 8, 3), np.uint8), (True,), (None,), (None,), (0,), seconds)


def test_a_trial_of_few_steps_counts_them_for_all_and_compiles_nothing():
    model = Compiled()
    device = Device(lambda: model, Clock(), 600.0)
    batch = make_batch(make_request(steps=2))

    assert device.try_out(batch) == 1 + 30 + 1
    device.rehearse(batch)
    assert model.seen == (True, False)


@pytest.mark.parametrize(
    "said", ["", "{", "[]", "{}", '{"batch_size": "8"}', '{"batch_size": 0}', '{"batch_size": true}']
)
def test_a_damaged_file_is_as_good_as_none(tmp_path, said):
    file = tmp_path / "size.json"
    file.write_text(said)

    assert recall(file) is None


def test_what_cannot_be_kept_is_no_fault(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        remember(tmp_path / "nowhere" / "size.json", 4, "[]")

    assert "not remembered" in caplog.text
    remember(tmp_path / "size.json", 4, "[]")
    assert (recall(tmp_path / "size.json"), len(list(tmp_path.iterdir()))) == (4, 1)


@pytest.mark.parametrize("said", [0, 1025, "8x", True, 2.5, None])
def test_a_size_is_a_number_or_auto(said):
    with pytest.raises(ValueError, match="a number from 1 to 1024, or auto"):
        ModelSettings(model="fake", batch_size=said)
    assert [ModelSettings(model="fake", batch_size=size).batch_size for size in ("auto", "16", 16)] == ["auto", 16, 16]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "lightmill" / "batch-sizes"


ROWS = [{"prompt": f"cat {row}", "width": 16 if row % 2 else 32} for row in range(12)]


def made_with(folder, **settings):
    """The sizes of the batches of each width, of a whole shard."""
    recipe = make_recipe(folder, ROWS, overrides=("width",), batch_size="auto", **settings)
    *_, report = Worker(recipe, "w0").run(make_order(len(ROWS)))
    found = read_metadata(report.metadata).table.to_pylist()
    assert {row["status"] for row in found} == {"ok"}
    return {width: {row["batch_size"] for row in found if row["width"] == width} for width in (16, 32)}


def test_each_size_of_image_has_its_own_and_later_jobs_take_it(tmp_path, cache, monkeypatch):
    tried = []
    pace = {16: 4, 32: 2}

    def found(seconds, most=1024):
        tried.append(seconds(1))
        return pace.popitem()[1]

    monkeypatch.setattr(batch_sizes, "best_size", found)

    first = made_with(tmp_path / "first")

    assert len(tried) == 2
    assert first == {16: {4, 2}, 32: {2}}  # six images: the larger ones were tried first
    assert sorted(recall(file) for file in cache.iterdir()) == [2, 4]
    assert made_with(tmp_path / "second") == first
    assert len(tried) == 2
    for file in cache.iterdir():
        file.write_text("torn")
    pace.update({16: 1, 32: 1})
    assert made_with(tmp_path / "third") == {16: {1}, 32: {1}}


def test_what_does_not_fit_is_smaller_for_this_worker_and_the_next_one_tries_again(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(batch_sizes, "best_size", lambda _: 4)
    recipe = make_recipe(tmp_path, ["a", "b", "c", "d", "e", "f"], model="fake:oom=3", batch_size="auto")

    for worker in (Worker(recipe, "w0"), Worker(recipe, "w1")):
        *first, _ = worker.run(make_order(6))
        *second, report = worker.run(make_order(6, index=1))
        assert [len(beats[0].announced) for beats in (first, second)] == [4, 2]
        assert set(read_metadata(report.metadata).table["batch_size"].to_pylist()) == {2}

    assert [recall(file) for file in cache.iterdir()] == [4]


def test_what_one_kind_has_room_for_is_not_what_another_is_fast_with(tmp_path, cache, monkeypatch):
    """Without guidance, and with it, images of one size."""
    found = [4, 1]
    monkeypatch.setattr(batch_sizes, "best_size", lambda _: found.pop(0))
    rows = [{"prompt": f"cat {row}", "guidance_scale": 1.0 if row < 4 else 5.0} for row in range(6)]
    recipe = make_recipe(tmp_path, rows, model="fake:oom=3", batch_size="auto", overrides=("guidance_scale",))
    worker = Worker(recipe, "w0")

    for index in range(2):
        *_, report = worker.run(make_order(6, index=index))
        assert read_metadata(report.metadata).table["batch_size"].to_pylist().count(1) == 2


def test_a_real_model_is_tried_out_on_the_device(tmp_path, cache):
    prompts = ["a fox", "an owl", "rain"]
    recipe = make_recipe(tmp_path, prompts, model="tiny", batch_size="auto", width=64, height=64, num_inference_steps=2)

    *_, report = Worker(recipe, "w0").run(make_order(len(prompts)))

    (file,) = cache.iterdir()
    said = json.loads(file.read_text())
    assert said["kind"][0] == "tiny"
    assert report.batch_size == min(said["batch_size"], 3)


def test_the_words_of_a_row_are_no_part_of_a_trial(tmp_path, cache):
    recipe = make_recipe(tmp_path, ["boom", "a", "b"], model="fake:fail=boom", batch_size="auto")
    *_, report = Worker(recipe, "w0").run(make_order(3))
    assert read_metadata(report.metadata).table["status"].to_pylist().count("failed") == report.failed == 1
    assert len(list(cache.iterdir())) == 1
