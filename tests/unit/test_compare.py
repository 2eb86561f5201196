"""One picture of prompts and models: its size, what is in its cells, and where the images come from."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from actors.contact_sheet import (
    GAP,
    GREY,
    LABEL_WIDTH,
    LEAST_SIDE,
    LINE_HEIGHT,
    MOST_PIXELS,
    MOST_SIDE,
    PAPER,
    ContactSheet,
    draw,
    room,
)
from actors.encoding import decode, encode
from actors.settings import EncodingSettings
from actors.storage.opening import open_bucket
from builders import MODEL, drive, finished, make_spec, make_table, read_rows
from cluster.cli import generate
from commands import lightmill
from jobs.lineup import line_up
from jobs.manifest import Manifest
from jobs.trial import trial_of

RED, BLUE = (200, 30, 30), (30, 30, 200)


def plain(colour, height=64, width=64):
    return np.full((height, width, 3), colour, np.uint8)


def middle(pixels, row, column, side, head):
    """The colour in the middle of a cell."""
    left, top = 2 * GAP + LABEL_WIDTH + column * (side + GAP), head + row * (side + GAP)
    return tuple(int(value) for value in pixels[top + side // 2, left + side // 2])


def opened(*specs):
    buckets = [open_bucket(spec.output) for spec in specs]
    return [(bucket, Manifest.load(bucket)) for bucket in buckets]


def test_each_cell_is_where_it_should_be():
    cells = [[plain(RED), plain(BLUE)], [plain(BLUE), "failed: no room"], [plain(RED), plain(RED)]]
    pixels = draw(ContactSheet([["one", "CC0"], ["two", "MIT"]], ["a", "b", "c"], cells))
    side, head = LEAST_SIDE, 2 * GAP + 2 * LINE_HEIGHT
    assert pixels.shape == (head + 3 * (side + GAP), 2 * GAP + LABEL_WIDTH + 2 * (side + GAP), 3)
    found = [[middle(pixels, row, column, side, head) for column in range(2)] for row in range(3)]
    assert found == [[RED, BLUE], [BLUE, GREY], [RED, RED]]


def test_pictures_keep_their_shape_and_large_ones_fit():
    pixels = draw(ContactSheet([["wide"]], ["a"], [[plain(RED, height=512, width=2048)]]))
    red = (pixels == RED).all(axis=2)
    rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
    assert (len(rows), len(columns)) == (MOST_SIDE // 4, MOST_SIDE)
    assert pixels.shape[1] == 2 * GAP + LABEL_WIDTH + MOST_SIDE + GAP


def test_a_sheet_of_many_is_a_picture_that_can_be_written():
    pixels = draw(ContactSheet([["a model of a long name"] * 9], ["a prompt"] * 100, [[plain(RED, 600, 300)]] * 100))
    assert 15_000 < max(pixels.shape) <= MOST_PIXELS
    with Image.open(io.BytesIO(encode(pixels, EncodingSettings(format="webp")))) as image:
        assert image.size == pixels.shape[1::-1]
    assert room(4, 100) < room(4, 50) < MOST_SIDE == room(4, 20)
    assert 2 * GAP + LABEL_WIDTH + 100 * (room(4, 100) + GAP) <= MOST_PIXELS


def test_pictures_are_held_no_larger_than_they_are_drawn(tmp_path):
    spec = finished(tmp_path, 1, models=[{**MODEL, "width": 1024, "height": 768}])
    ((cell,),) = line_up(opened(spec), 1).sheet.cells
    assert cell.shape == (384, 512, 3)


def test_words_stay_in_their_place_however_long_they_are():
    blank = draw(ContactSheet([["m"]], [""], [[plain(RED)]]))
    for text in ("word " * 500, "x" * 500, "F\u00fcchse \u72d0 \U0001f98a"):
        pixels = draw(ContactSheet([["m"]], [text], [[plain(RED)]]))
        changed = np.flatnonzero((pixels != blank).any(axis=(0, 2)))
        assert pixels.shape == blank.shape
        assert len(changed) > 0
        assert GAP - 2 <= changed.min() <= changed.max() < 2 * GAP + LABEL_WIDTH
        assert (pixels[-GAP:, :LABEL_WIDTH] == PAPER).all()


def test_lanes_of_one_output_are_columns(tmp_path):
    models = [{**MODEL, "model": "fake:fail=boom"}, {**MODEL, "model": "fake"}]
    spec = finished(tmp_path, ["an owl", "boom", "a fox"], models=models, images_per_prompt=2)
    found = line_up(opened(spec), 2)
    assert found.sheet.columns == [
        ["fake:fail=boom", "licence CC0-1.0, tier clean", "steps 1, guidance 0"],
        ["fake", "licence CC0-1.0, tier clean", "steps 1, guidance 0"],
    ]
    assert found.sheet.rows == ["an owl", "boom"]
    (owl, owl_too), (boom, boom_too) = found.sheet.cells
    assert boom.startswith("failed, LM1603: the model raised RuntimeError")
    assert found.missing == 1
    row = read_rows(spec)["000000000001-0000-01"]
    assert np.array_equal(boom_too, image_of(spec, row))
    assert np.array_equal(owl, owl_too)


def test_outputs_are_joined_by_id_whatever_the_order_of_their_rows(tmp_path):
    names = ["owl", "fox", "cat", "elk", "bee", "ant"]
    one = finished(tmp_path / "a", table=make_table(tmp_path / "a", names, id=names), name="one")
    names.reverse()
    table = make_table(tmp_path / "b", names[:-1], id=names[:-1])
    other = finished(tmp_path / "b", table=table, name="other", seed=1)
    found = line_up(opened(one, other), 3)
    assert found.sheet.rows == ["owl", "fox", "cat"]
    assert [heading[-1] for heading in found.sheet.columns] == ["one", "other"]
    assert found.sheet.cells[0][1] == "nothing was promised here, or it is not made yet"  # the owl was left out
    assert np.array_equal(found.sheet.cells[1][1], image_of(other, read_rows(other)["000000000004-0000-00"]))
    strangers = finished(tmp_path / "c", table=make_table(tmp_path / "c", ["x"], id=["x"]))
    said = lightmill("compare", one.output, strangers.output, "--output", tmp_path / "x.png")
    assert (said.status, said.codes, (tmp_path / "x.png").exists()) == (3, ["LM1825"], False)


def test_a_job_is_drawn_with_the_images_that_it_would_make_and_its_output_is_left_alone(tmp_path, monkeypatch):
    lanes = [{**MODEL, "model": "fake"}, {**MODEL, "model": "fake:natural=1"}]
    columns = {"model": ["fake", "fake:natural=1"] * 5}
    table = make_table(tmp_path, 10, **columns)
    spec = make_spec(tmp_path, table=table, models=lanes, overrides=["model"], images_per_prompt=3)
    job = tmp_path / "job.yaml"
    job.write_text(json.dumps(spec.dump()))
    orders = []

    def in_this_process(order, *, as_json):
        orders.append(order)
        return drive(order.spec).ends[-1][0]

    monkeypatch.setattr(generate, "follow", in_this_process)
    before = set(tmp_path.iterdir())
    said = lightmill("compare", job, "--prompts", "3", "--output", tmp_path / "seen.webp", "--json")
    assert set(tmp_path.iterdir()) - before == {tmp_path / "seen.webp"}
    assert (said.status, said.json["prompts"], said.json["models"], said.json["missing"]) == (0, 3, 2, 0)
    with Image.open(io.BytesIO((tmp_path / "seen.webp").read_bytes())) as image:
        assert image.format == "WEBP"
        side, head = LEAST_SIDE, 2 * GAP + 3 * LINE_HEIGHT
        assert image.size == (2 * GAP + LABEL_WIDTH + 2 * (side + GAP), head + 3 * (side + GAP))
    assert not Path(spec.output).exists()
    assert not Path(orders[0].spec.output).exists()


def test_a_trial_has_the_ids_and_seeds_of_its_job(tmp_path):
    spec = finished(tmp_path, 10, images_per_prompt=2)
    (tmp_path / "trial").mkdir()
    trial = trial_of(spec, 3, tmp_path / "trial")
    assert drive(trial).ends[-1][0] == 0
    rows, tried = read_rows(spec), read_rows(trial)
    assert list(tried) == [f"{row:012d}-0000-00" for row in range(3)]
    assert all((row["id"], row["sha256"]) == (rows[key]["id"], rows[key]["sha256"]) for key, row in tried.items())


@pytest.mark.parametrize(
    ("words", "status", "code"),
    [(["x.yaml", "--output", "x.gif"], 2, "LM1103"), (["none.yaml"], 3, "LM1104"), (["nowhere"], 3, "LM1316")],
)
def test_what_cannot_be_compared(tmp_path, monkeypatch, words, status, code):
    monkeypatch.chdir(tmp_path)
    said = lightmill("compare", *words)
    assert (said.status, said.codes) == (status, [code])


def image_of(spec, row):
    return decode(open_bucket(spec.output).read(row["file"], row["file_offset"], row["file_length"]))
