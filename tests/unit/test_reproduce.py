"""Images are made again from their rows, and compared: identical, within rounding, different; found by id and key."""

import json
from pathlib import Path

import pytest

from actors import batch_sizes, metadata
from actors.device import Device
from actors.encoding import decode, encode
from actors.models.tiny import tiny_folder
from actors.settings import EncodingSettings
from actors.storage.opening import open_bucket
from builders import MODEL, QuietLeash, finished, make_spec, make_table, read_rows
from commands import lightmill
from jobs.lookup import Lookup
from jobs.manifest import Manifest
from jobs.order import ReproduceOrder
from jobs.reproduce import reproduce
from pipelines import copy_of_tiny

TINY = {"model": "tiny", "num_inference_steps": 2, "batch_size": 8, "threads": 1}
BIRDS = ["an owl", "a heron", "a wren", "a kite", "a swan", "a crane", "a robin", "a finch", "a stork"]


@pytest.fixture(scope="module")
def birds(tmp_path_factory):
    """Nine prompts with ids, two images each, through `tiny`: batches of 8, 8 and 2."""
    folder = tmp_path_factory.mktemp("birds")
    table = make_table(folder, BIRDS, id=[name.split()[1] for name in BIRDS])
    return finished(folder, table=table, models=[TINY], images_per_prompt=2, shard_size=18)


@pytest.fixture
def waves(tmp_path):
    """Ten prompts without ids through `fake`, in shards of four; one fails."""
    prompts = [f"colour {row}" if row != 6 else "boom" for row in range(10)]
    return finished(tmp_path, prompts, model="fake:fail=boom", sink="files")


def again(spec, id=None, **order):  # noqa: A002
    """The exit status, and what was said of it."""
    leash = QuietLeash()
    status = reproduce(ReproduceOrder(output=spec.output, storage=spec.storage, id=id, **order), leash)
    return status, leash


def rewrite(spec, **values):
    """Let the metadata of every image of the output say something else."""
    bucket = open_bucket(spec.output)
    for info in list(bucket.list("metadata/")):
        found = metadata.read_metadata(bucket.get(info.key))
        rows = [{**row, **values} for row in found.table.to_pylist()]
        table = found.table.from_pylist(rows, found.table.schema)
        bucket.put(info.key, metadata._to_bytes(table, found.header))


def image_file(spec, row):
    return Path(spec.output, read_rows(spec)[f"{row:012d}-0000-00"]["file"])


def test_one_image_out_of_a_batch_of_eight_is_made_again_to_the_byte(birds, tmp_path):
    status, leash = again(birds, "heron", image_index=1, save=str(tmp_path / "heron.png"))
    (image,) = leash.images
    assert (status, image["verdict"], image["environment"]) == (0, "identical", ())
    assert (image["key"], image["id"]) == ("000000000001-0001-00", "heron")
    row = read_rows(birds)[image["key"]]
    assert row["batch_size"] == 8
    stored = open_bucket(birds.output).read(row["file"], row["file_offset"], row["file_length"])
    assert (tmp_path / "heron.png").read_bytes() == stored
    assert list(tmp_path.iterdir()) == [tmp_path / "heron.png"]


def test_all_images_of_batches_of_several_sizes_are_identical(birds):
    assert {row["batch_size"] for row in read_rows(birds).values()} == {8, 2}
    status, leash = again(birds)
    assert (status, leash.images) == (0, [])
    assert leash.ends[-1][1]["verdicts"] == {"identical": 18, "rounding": 0, "different": 0}


def test_shortcuts_and_sizes_that_were_found_out_are_taken_again(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(batch_sizes, "best_size", lambda _: 4)
    shortcuts = {"cache": {"kind": "deepcache", "interval": 2}}
    model = {**TINY, "num_inference_steps": 3, "batch_size": "auto", "shortcuts": shortcuts}
    spec = finished(tmp_path, BIRDS[:5], models=[model], shard_size=5)
    assert {row["batch_size"] for row in read_rows(spec).values()} == {4, 1}
    assert {row["recipe"] for row in read_rows(spec).values()} == {json.dumps({"shortcuts": shortcuts}, sort_keys=True)}

    status, leash = again(spec)

    assert (status, leash.ends[-1][1]["verdicts"]) == (0, {"identical": 5, "rounding": 0, "different": 0})


def test_another_batch_size_is_within_rounding_and_named(birds, monkeypatch):
    monkeypatch.setattr(Device, "room", lambda self, batch: 1)
    status, leash = again(birds)
    end = leash.ends[-1][1]
    assert status == 0
    assert end["verdicts"]["rounding"] > 0 == end["verdicts"]["different"]
    assert 1 <= end["worst"]["max_difference"] <= 2
    assert end["worst"]["psnr"] >= 45
    assert {"name": "batch_size", "then": "8", "now": "1", "images": 16} in end["environment"]


def test_other_weights_are_said_before_anything_else(birds, tmp_path):
    copy = make_spec(tmp_path, output=str(tmp_path / "copy"))
    target, source = open_bucket(copy.output), open_bucket(birds.output)
    for info in source.list():
        target.put(info.key, source.get(info.key))
    rewrite(copy, weights_sha256="f00d", device="abacus")
    status, leash = again(copy, "owl", image_index=0)
    assert "LM1824" in leash.said[0]
    assert "f00d" in leash.said[0]
    assert [what["name"] for what in leash.images[0]["environment"]] == ["weights_sha256", "device"]
    assert status == 0  # since the picture is the same all the same


def test_an_image_that_was_tampered_with_is_different(waves):
    path = image_file(waves, 3)
    pixels = decode(path.read_bytes()).copy()
    pixels[4, 4] ^= 1
    path.write_bytes(encode(pixels, EncodingSettings(format="png")))
    fitting = path.stat().st_size == read_rows(waves)["000000000003-0000-00"]["file_length"]
    status, leash = again(waves, "3")
    assert status == 1
    assert leash.errors[-1].code == "LM1823"
    assert leash.images[0]["verdict"] == "different"
    assert "SHA-256" in leash.images[0]["reason"] or not fitting
    status, leash = again(waves)
    assert (status, [image["key"] for image in leash.images]) == (1, ["000000000003-0000-00"])
    assert leash.ends[-1][1]["worst"]["key"] == "000000000003-0000-00"


@pytest.mark.parametrize("harm", ["noise", "gone"])
def test_an_image_that_cannot_be_read_is_different_and_ends_nothing(waves, harm):
    path = image_file(waves, 0)
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(b"x" * path.stat().st_size)
    status, leash = again(waves)
    assert status == 1
    assert leash.ends[-1][1]["verdicts"] == {"identical": 8, "rounding": 0, "different": 1}
    assert ("cannot be read" if harm == "gone" else "changed after it was stored") in leash.images[0]["reason"]


def test_a_model_that_raises_now_makes_the_image_different(tmp_path):
    cure = tmp_path / "cure"
    cure.touch()
    spec = finished(tmp_path, ["fine", "boom"], model=f"fake:fail=boom,cure={cure}")
    assert again(spec)[0] == 0
    cure.unlink()
    status, leash = again(spec, "1")
    assert status == 1
    assert "no image came out this time: the model raised RuntimeError" in leash.images[0]["reason"]


def test_what_was_compared_before_a_model_that_is_gone_is_summed_up(tmp_path):
    folder = copy_of_tiny(tiny_folder(), tmp_path / "model")
    spec = finished(tmp_path, 4, sink="files", models=[MODEL, {**TINY, "model": str(folder)}])
    image_file(spec, 1).unlink()
    folder.rename(tmp_path / "elsewhere")
    said = lightmill("reproduce", spec.output, "--all")
    assert (said.status, said.codes) == (3, ["LM1201"])
    assert "4 images made again: 3 identical, 0 within rounding, 1 different" in said.out
    assert "not all was compared" in said.err


def test_an_unknown_id_is_bad_input_with_those_that_are_close(birds):
    status, leash = again(birds, "robbin")
    assert (status, leash.errors[0].code) == (3, "LM1821")
    assert "did you mean robin" in leash.errors[0].problems[0].message
    status, leash = again(birds, "robin", image_index=2)
    assert (status, leash.errors[0].code) == (3, "LM1821")
    assert leash.errors[0].problems[0].help == "use one of 0, 1"


def test_a_failed_row_says_why_it_has_no_image(waves):
    status, leash = again(waves, "6")
    (problem,) = leash.errors[0].problems
    assert (status, problem.code) == (3, "LM1822")
    assert "it is failed, LM1603: the model raised RuntimeError: fail=boom" in problem.message
    status, leash = again(waves)
    assert (status, leash.ends[-1][1]["without_image"]) == (0, 1)


def test_what_no_retry_makes_is_not_sent_to_one(tmp_path):
    spec = finished(tmp_path, ["a", ""])
    _, leash = again(spec, "1")
    (problem,) = leash.errors[0].problems
    assert problem.code == "LM1822"
    assert "the rows of the table are at fault" in problem.help


def test_a_seed_that_was_the_second_is_used_as_it_is(tmp_path):
    spec = finished(tmp_path, ["blink"], model="fake:blink=blink")
    assert read_rows(spec)["000000000000-0000-00"]["seed_rejected"] is not None
    status, leash = again(spec, "0")
    assert (status, leash.images[0]["verdict"]) == (0, "identical")


def test_a_sample_is_the_same_every_time_and_of_that_size(waves):
    found = [row["key"] for rows in lookup(waves).sample(5) for row in rows]
    assert len(set(found)) == len(found) == 5
    assert found == [row["key"] for rows in lookup(waves).sample(5) for row in rows]
    assert sum(map(len, lookup(waves).sample(1000))) == 10
    status, leash = again(waves, sample=5)
    end = leash.ends[-1][1]
    assert (status, end["verdicts"]["identical"] + end["without_image"]) == (0, 5)


def test_rows_are_found_by_id_by_key_and_by_number(birds, waves):
    assert keys(birds, "swan") == ["000000000004-0000-00", "000000000004-0001-00"]
    assert keys(birds, "000000000004-0001-00") == ["000000000004-0001-00"]
    assert keys(birds, "4") == keys(birds, "000000000004-0002-00") == []
    assert keys(waves, "9") == keys(waves, "000000000009-0000-00") == ["000000000009-0000-00"]
    assert keys(waves, "10") == keys(waves, "colour 1") == keys(waves, "000000000009-0000-01") == []
    assert keys(waves, "2", "5") == ["000000000002-0000-00", "000000000005-0000-00"]


def test_what_has_a_number_is_found_by_opening_one_file(waves, monkeypatch):
    opened = []
    wanted = lookup(waves)
    open_ = wanted._bucket.open
    monkeypatch.setattr(wanted._bucket, "open", lambda key: opened.append(key) or open_(key))
    wanted.find(["9"])
    assert opened == ["metadata/000000002.parquet"]


def test_shards_that_are_not_there_hold_nothing(waves):
    open_bucket(waves.output).delete("metadata/000000001.parquet")
    assert keys(waves, "5") == []
    assert len([row for rows in lookup(waves).sample(10) for row in rows]) == 6


def test_the_command_speaks_of_one_image_and_of_many(waves):
    said = lightmill("reproduce", waves.output, "2")
    assert (said.status, said.err) == (0, "")
    assert said.out == "000000000002-0000-00  2, image 0: identical bytes\n"
    said = lightmill("reproduce", waves.output, "--all", "--json")
    assert (said.status, said.json["verdicts"]["identical"], said.json["images"]) == (0, 9, [])
    image_file(waves, 1).unlink()
    said = lightmill("reproduce", waves.output, "--all")
    assert (said.status, said.codes) == (1, ["LM1823"])
    first, because, summary, skipped, worst, bounds = said.out.splitlines()
    assert first == "000000000001-0000-00  1, image 0: different"
    assert because.startswith("  because   the stored image cannot be read")
    assert summary == "9 images made again: 8 identical, 0 within rounding, 1 different"
    assert (skipped, worst) == (
        "  skipped   1 row without an image",
        "  worst     000000000001-0000-00: different",
    )
    assert "at most 2 levels (JPEG: 32) and a PSNR of 45 dB" in bounds


@pytest.mark.parametrize(
    "words", [(), ("7", "--all"), ("7", "--sample", "3"), ("--all", "--image-index", "1"), ("--all", "--save", "x")]
)
def test_flags_that_do_not_go_together_are_exit_status_2(tmp_path, words):
    said = lightmill("reproduce", tmp_path, *words)
    assert (said.status, said.codes) == (2, ["LM1103"])


def test_saving_takes_one_image(birds, tmp_path):
    status, leash = again(birds, "owl", save=str(tmp_path / "owl.png"))
    assert (status, leash.errors[0].code, (tmp_path / "owl.png").exists()) == (2, "LM1826", False)


def lookup(spec):
    bucket = open_bucket(spec.output)
    return Lookup(bucket, Manifest.load(bucket))


def keys(spec, *names):
    return [row["key"] for row in lookup(spec).find(names)]
