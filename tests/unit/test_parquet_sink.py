"""Images inside Parquet: at the bytes that their rows name, equal for equal samples, and read with no code of ours."""

import hashlib
import io
import warnings
from pathlib import Path
from types import SimpleNamespace

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from actors import metadata, parquet_sink
from actors.encoding import decode
from actors.errors import Problem, StorageError
from actors.features import features
from actors.parquet_sink import ParquetSink
from actors.records import sample_key
from actors.sinks import EncodedImage
from actors.storage.opening import open_bucket
from builders import MODEL, QuietLeash, drive, finished, make_spec, read_rows
from jobs.containers import file_faults
from jobs.manifest import Manifest
from jobs.order import ReproduceOrder
from jobs.reproduce import reproduce
from jobs.verify import verify
from memory_bucket import MemoryBucket

FILE = "images/a.parquet"
NOTHING = pa.schema([])
CARRIED = pa.schema(
    [
        ("image", pa.string()),
        ("input_image", pa.string()),
        ("tags", pa.list_(pa.string())),
        ("boxes", pa.list_(pa.struct([("x", pa.int32()), ("label", pa.string())]))),
        ("grid", pa.list_(pa.list_(pa.float32()))),
        ("source", pa.struct([("site", pa.string()), ("price", pa.decimal128(10, 2))])),
        ("pairs", pa.map_(pa.string(), pa.int64())),
    ]
)


def encoded(number, data):
    return EncodedImage(sample_key(number, 0, 0), "png", data, hashlib.sha256(data).hexdigest(), b"")


def a_row(number):
    return {"key": sample_key(number, 0, 0), "status": "ok", "prompt": f"cat {number}", "attempt": "x", "seed": number}


def write(images, bucket=None, carried=NOTHING, more=()):
    """The bucket, the rows, and the files."""
    bucket = bucket or MemoryBucket()
    sink = ParquetSink(bucket, "a", lambda: True, carried)
    rows = [a_row(number) for number in range(len(images))]
    for number, (row, data) in enumerate(zip(rows, images, strict=True)):
        row.update(more[number] if more else {})
        sink.append(encoded(number, data), row)
    return bucket, rows, sink.finish()


def noise(number, size):
    """The same beginning for all, as the images of one format have."""
    return (
        b"\x89PNG".ljust(size, b"-")[:size] if size < 64 else bytes(60) + np.random.default_rng(number).bytes(size - 60)
    )


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.sampled_from([1, 3, 40, 64, 700, 5_000, 40_000]), min_size=1, max_size=80),
    join=st.sampled_from([1, 1_000, 30_000]),
    page=st.sampled_from([1, 1_000, 30_000]),
    group=st.sampled_from([1, 10_000, 100_000]),
)
def test_each_image_lies_where_its_row_says(sizes, join, page, group):
    images = [noise(number, size) for number, size in enumerate(sizes)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet_sink, "JOIN_BELOW", join)
        patch.setattr(parquet_sink, "PAGE_BYTES", page)
        patch.setattr(parquet_sink, "GROUP_BYTES", group)
        bucket, rows, files = write(images)
    data = bucket.objects[FILE]
    assert [data[row["file_offset"] :][: row["file_length"]] for row in rows] == images
    assert {row["file"] for row in rows} == {FILE}
    assert [(file.file, file.rows, file.bytes) for file in files] == [(FILE, len(images), len(data))]
    assert files[0].sha256 == hashlib.sha256(data).hexdigest()
    read = pq.read_table(io.BytesIO(data)).to_pylist()
    assert [row["image"] for row in read] == [
        {"bytes": image, "path": f"{sample_key(number, 0, 0)}.png"} for number, image in enumerate(images)
    ]
    assert [(row["key"], row["prompt"]) for row in read] == [(row["key"], row["prompt"]) for row in rows]
    hashes = [{**row, "sha256": hashlib.sha256(image).hexdigest()} for row, image in zip(rows, images, strict=True)]
    assert file_faults(bucket, files[0], hashes) == []


def test_row_groups_are_stored_as_their_bytes_come_together(monkeypatch):
    monkeypatch.setattr(parquet_sink, "GROUP_BYTES", 1_000_000)
    stored = []
    bucket = MemoryBucket(before_write=lambda key, size: stored.append(size))
    sink = ParquetSink(bucket, "a", lambda: True, NOTHING)
    behind = []
    for number in range(40):
        sink.append(encoded(number, noise(number, 100_000)), a_row(number))
        behind.append((number + 1) * 100_000 - sum(stored))
    sink.finish()
    assert max(behind) <= 1_000_000
    assert pq.read_metadata(io.BytesIO(bucket.objects[FILE])).num_row_groups == 4


def test_the_bytes_of_images_are_stored_as_they_are():
    bucket, _, _ = write([bytes(2_000_000), bytes(300)])
    group = pq.read_metadata(io.BytesIO(bucket.objects[FILE])).row_group(0)
    (stored,) = (group.column(n) for n in range(group.num_columns) if group.column(n).path_in_schema == "image.bytes")
    assert (stored.compression, set(stored.encodings), stored.is_stats_set) == ("UNCOMPRESSED", {"PLAIN", "RLE"}, False)
    others = [group.column(n) for n in range(group.num_columns) if group.column(n).path_in_schema != "image.bytes"]
    assert {column.compression for column in others} == {"SNAPPY"}


def test_columns_are_those_that_say_what_the_image_is():
    bucket, _, _ = write([b"one"])
    names = pq.read_schema(io.BytesIO(bucket.objects[FILE])).names
    assert names[0] == "image"
    assert {"id", "key", "prompt", "seed", "model", "width", "num_inference_steps", "scheduler"} <= set(names)
    assert not {"attempt", "created_at", "worker", "file_offset", "shard", "status", "error"} & set(names)


def test_a_broken_store_fails_and_what_was_begun_is_given_up():
    def break_down(key, size):
        raise StorageError(Problem("LM1301", "the store is gone"))

    bucket = MemoryBucket(before_write=break_down)
    sink = ParquetSink(bucket, "a", lambda: True, NOTHING)
    sink.append(encoded(0, b"one"), a_row(0))
    with pytest.raises(StorageError, match="the store is gone"):
        sink.finish()
    sink.abort()
    del sink
    assert bucket.objects == {}


def test_given_up_in_the_middle_it_leaves_no_file(monkeypatch):
    monkeypatch.setattr(parquet_sink, "GROUP_BYTES", 2)
    bucket = MemoryBucket()
    sink = ParquetSink(bucket, "a", lambda: True, NOTHING)
    sink.append(encoded(0, b"one"), a_row(0))
    sink.append(encoded(1, b"two"), a_row(1))
    sink.abort()
    del sink
    assert bucket.objects == {}


MORE = [
    {
        "image": f"http://localhost/{number}.png",
        "input_image": "other",
        "tags": ["a", "b"] if number else None,
        "boxes": [{"x": 1, "label": "cat"}],
        "grid": [[0.5], []],
        "source": {"site": "here", "price": None},
        "pairs": [("a", 1)],
    }
    for number in range(3)
]


def test_a_column_of_the_users_that_is_called_image_is_carried_beside_ours():
    bucket, _, _ = write([b"0", b"1", b"2"], carried=CARRIED, more=MORE)
    read = pq.read_table(io.BytesIO(bucket.objects[FILE])).to_pylist()
    assert [row["image"]["bytes"] for row in read] == [b"0", b"1", b"2"]
    assert [row["input_image"] for row in read] == [f"http://localhost/{number}.png" for number in range(3)]
    assert [row["input_input_image"] for row in read] == ["other"] * 3
    assert (read[1]["tags"], read[1]["boxes"]) == (["a", "b"], [{"x": 1, "label": "cat"}])
    assert "pairs" not in read[0]  # which the metadata has


@pytest.fixture
def datasets(monkeypatch):
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its dependencies, at import
        import datasets
    datasets.disable_progress_bars()
    return datasets


def test_features_are_those_that_datasets_finds_by_itself(datasets):
    bucket, _, _ = write([b"0", b"1", b"2"], carried=CARRIED, more=MORE)
    schema = pq.read_schema(io.BytesIO(bucket.objects[FILE]))
    found = datasets.Features.from_arrow_schema(schema)
    assert isinstance(found["image"], datasets.Image)
    assert datasets.Features._from_yaml_list(features(schema)) == found
    assert features(schema) == found._to_yaml_list()


@pytest.fixture(scope="module", params=["png", "webp"])
def job(request, tmp_path_factory):
    """A job of which one row fails, in three shards; and a file that a worker left when it died."""
    prompts = [f"a cat, number {number} ❄" for number in range(8)]
    prompts[5] = "boom"
    changes = {"model": "fake:natural=1,fail=boom", "encoding": {"format": request.param}, "sink": "parquet"}
    spec = finished(tmp_path_factory.mktemp(request.param), prompts, **changes)
    out = Path(spec.output)
    left = out / "images/000000000-0123456789ab.parquet"
    left.write_bytes((out / read_rows(spec)[sample_key(0, 0, 0)]["file"]).read_bytes())
    rows = {key: row for key, row in read_rows(spec).items() if row["status"] == "ok"}
    assert len(rows) == 7
    return SimpleNamespace(spec=spec, out=out, rows=rows, files=(out / "shards.txt").read_text().split())


def assert_pixels(job, key, pixels):
    row = job.rows[key]
    image = (job.out / row["file"]).read_bytes()[row["file_offset"] :][: row["file_length"]]
    assert np.array_equal(np.asarray(pixels), decode(image))


@pytest.mark.parametrize("how", ["by its folder", "by its files"])
def test_datasets_loads_pictures_and_captions(job, datasets, tmp_path, how):
    if how == "by its folder":
        loaded = datasets.load_dataset(str(job.out), split="train", cache_dir=str(tmp_path))
    else:
        files = [str(job.out / file) for file in job.files]
        loaded = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path))
    assert isinstance(loaded.features["image"], datasets.Image)
    assert sorted(loaded["key"]) == sorted(job.rows)
    for sample in loaded:
        assert_pixels(job, sample["key"], sample["image"])
        row = job.rows[sample["key"]]
        assert (sample["prompt"], sample["seed"], sample["format"]) == (row["prompt"], row["seed"], row["format"])


def test_datasets_streams_it(job, datasets):
    streamed = datasets.load_dataset(str(job.out), split="train", streaming=True)
    for sample in streamed:
        assert_pixels(job, sample["key"], sample["image"])


def test_pandas_and_duckdb_read_it(job):
    files = [str(job.out / file) for file in job.files]
    frame = pd.concat(map(pd.read_parquet, files))
    assert sorted(frame["key"]) == sorted(job.rows)
    for key, image in zip(frame["key"], frame["image"], strict=True):
        assert_pixels(job, key, decode(image["bytes"]))
    found = duckdb.sql(f"select key, prompt, image.bytes, image.path from read_parquet({files})").fetchall()
    assert sorted(key for key, *_ in found) == sorted(job.rows)
    for key, prompt, image, path in found:
        assert_pixels(job, key, decode(image))
        assert (prompt, path) == (job.rows[key]["prompt"], f"{key}.{job.rows[key]['format']}")


def test_the_card_names_files_and_features(job):
    _, front, body = (job.out / "README.md").read_text().split("---\n", 2)
    matter = yaml.safe_load(front)
    assert matter["configs"][0]["data_files"] == [{"split": "train", "path": job.files}]
    assert matter["dataset_info"]["features"][0] == {"name": "image", "dtype": "image"}
    assert 'load_dataset("parquet", data_files=open("shards.txt")' in body


def test_equal_images_give_equal_files(job, tmp_path):
    again = make_spec(tmp_path, table=job.spec.prompts, sink="parquet", encoding=job.spec.encoding.model_dump())
    again = again.model_copy(update={"models": job.spec.models})
    assert drive(again).ends[-1][0] == 0

    def hashes(spec):
        headers = (metadata.read_header(path.read_bytes()) for path in sorted(Path(spec.output).glob("metadata/*")))
        return [(file.rows, file.bytes, file.sha256) for header in headers for file in header.files]

    assert hashes(again) == hashes(job.spec)


def test_a_retry_writes_a_file_of_its_own_and_reproduce_reads_both(tmp_path):
    cure = tmp_path / "cure"
    spec = finished(tmp_path, ["a", "boom", "c"], model=f"fake:fail=boom,cure={cure}", sink="parquet")
    before = {row["prompt"]: (row["status"], row["file"]) for row in read_rows(spec).values()}
    assert before["boom"] == ("failed", None)
    cure.touch()

    assert drive(spec, purpose="retry").ends[-1][0] == 0

    after = {row["prompt"]: (row["status"], row["file"]) for row in read_rows(spec).values()}
    assert (after["a"], after["c"]) == (before["a"], before["c"])
    assert after["boom"][0] == "ok"
    assert after["boom"][1] not in (None, after["a"][1])
    named = (Path(spec.output) / "shards.txt").read_text().split()
    assert sorted(named) == sorted({file for _, file in after.values()})
    bucket = open_bucket(spec.output)
    assert [checked.faults for checked in verify(bucket, Manifest.load(bucket)) if checked.faults] == []
    leash = QuietLeash()
    assert reproduce(ReproduceOrder(output=spec.output, storage=spec.storage), leash) == 0
    assert leash.ends[-1][1]["verdicts"] == {"identical": 3, "rounding": 0, "different": 0}


def test_a_later_stage_is_made_of_images_inside_parquet(tmp_path):
    tiny = {"model": "tiny", "num_inference_steps": 2, "batch_size": 2, "threads": 1, "workers": {"max": 1}}
    stages = [{**MODEL, "workers": {"max": 1}}, {**tiny, "width": 32, "height": 24}]
    both = [finished(tmp_path / sink, 3, models=None, stages=stages, sink=sink) for sink in ("webdataset", "parquet")]
    tars, ours = ({key: row["sha256"] for key, row in read_rows(spec).items()} for spec in both)
    assert ours == tars
    assert len(ours) == 6


def with_bytes(bucket, file, data):
    """The file as if it had been written with these bytes."""
    bucket.objects[FILE] = data
    return type(file)(file.file, file.rows, len(data), hashlib.sha256(data).hexdigest())


@pytest.fixture
def stored():
    images = [noise(number, 1_000) for number in range(6)]
    bucket, rows, (file,) = write(images)
    for row, image in zip(rows, images, strict=True):
        row["sha256"] = hashlib.sha256(image).hexdigest()
    return bucket, rows, file


def codes(bucket, file, rows):
    return [fault.code for fault in file_faults(bucket, file, rows)]


def test_verify_finds_a_container_that_is_none(stored):
    bucket, rows, file = stored
    data = bucket.objects[FILE]
    assert codes(bucket, with_bytes(bucket, file, data[:-8]), rows) == ["LM1805"]


def test_verify_finds_an_image_that_is_elsewhere(stored):
    bucket, rows, file = stored
    rows[2]["file_offset"] += 1
    assert codes(bucket, file, rows) == ["LM1806"]
    rows[2]["file_offset"] = 10**9
    assert codes(bucket, file, rows) == ["LM1806"]


def test_verify_finds_an_image_that_no_row_names_and_a_row_without_one(stored):
    bucket, rows, file = stored
    assert codes(bucket, file, rows[:-1]) == ["LM1806"]
    missing = {**rows[0], "key": "other"}
    assert sorted(codes(bucket, file, [*rows[1:], missing])) == ["LM1806", "LM1806"]


def test_verify_finds_images_that_changed_places(stored):
    """The bytes are all there, and each is where its row says; only the keys in the file are others."""
    bucket, rows, file = stored
    rows[0]["key"], rows[1]["key"] = rows[1]["key"], rows[0]["key"]
    assert codes(bucket, file, rows) == ["LM1806", "LM1806"]


def test_verify_finds_a_flipped_bit_and_a_lost_file(stored):
    bucket, rows, file = stored
    data = bytearray(bucket.objects[FILE])
    data[-20] ^= 1
    bucket.objects[FILE] = bytes(data)
    assert codes(bucket, file, rows) == ["LM1805"]
    data[rows[3]["file_offset"] + 5] ^= 1
    bucket.objects[FILE] = bytes(data)
    assert codes(bucket, file, rows) == ["LM1806", "LM1805"]
    del bucket.objects[FILE]
    assert codes(bucket, file, rows) == ["LM1804"]
