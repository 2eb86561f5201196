"""A shard's samples become files and rows: in order, hashed, bounded in memory, or not at all."""

import hashlib
import io
import json
import random
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors import parquet_sink
from actors import writer as writer_module
from actors.encoding import decode
from actors.errors import Problem, StorageError
from actors.records import Shard, sample_key
from actors.settings import EncodingSettings
from actors.storage.opening import open_bucket
from actors.writer import ShardWriter
from benchmarks.natural import natural_image
from memory_bucket import MemoryBucket
from processes import wait_until
from servers.moto import moto_server as start_moto
from servers.store import place_on

SHARD = Shard(42, 0, 0, 1000)
STEM = "images/000000042-attempt1"
TAR = f"{STEM}.tar"
PARQUET = f"{STEM}.parquet"


@pytest.fixture(scope="module")
def executor():
    with ThreadPoolExecutor(2) as pool:
        yield pool


def open_writer(bucket, executor, **changes):
    options = {"sink": "webdataset", "encoding": EncodingSettings(format="png"), "executor": executor, **changes}
    return ShardWriter(bucket, SHARD, "attempt1", **options)


def a_row(number, **columns):
    return {"key": sample_key(number, 0, 0), "status": "ok", "prompt": f"cat {number}", **columns}


def an_image(number, size=8):
    return np.random.default_rng(number).integers(0, 255, (size, size, 3), np.uint8)


def write(bucket, executor, count, size=8, **changes):
    with open_writer(bucket, executor, **changes) as writer:
        for number in range(count):
            writer.add(a_row(number), an_image(number, size))
        return writer.finish()


def members(data):
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return [(info.name, archive.extractfile(info).read()) for info in archive]


@pytest.mark.parametrize("size", [1, 64, 300])
@pytest.mark.parametrize("name", ["webp", "png", "jpeg"])
def test_a_tar_holds_each_image_and_its_row_in_order(executor, name, size):
    bucket = MemoryBucket()
    rows, files = write(bucket, executor, 70, size, encoding=EncodingSettings(format=name))
    data = bucket.objects[TAR]
    found = members(data)
    assert [row["key"] for row in rows] == [sample_key(number, 0, 0) for number in range(70)]
    assert [member for member, _ in found] == [f"{row['key']}.{kind}" for row in rows for kind in (name, "json")]
    for number, (row, (_, image), (_, text)) in enumerate(zip(rows, found[::2], found[1::2], strict=True)):
        assert (row["file"], row["format"], row["status"]) == (TAR, name, "ok")
        assert data[row["file_offset"] :][: row["file_length"]] == image
        assert row["sha256"] == hashlib.sha256(image).hexdigest()
        assert json.loads(text) == a_row(number)
        assert name == "jpeg" or np.array_equal(decode(image), an_image(number, size))
    assert [(file.file, file.rows, file.bytes) for file in files] == [(TAR, 70, len(data))]
    assert files[0].sha256 == hashlib.sha256(data).hexdigest()


def test_loose_files_are_one_object_each(executor):
    bucket = MemoryBucket()
    rows, files = write(bucket, executor, 50, sink="files")
    assert list(bucket.objects) == [file.file for file in files]
    assert len(files) == 50
    for row, file in zip(rows, files, strict=True):
        data = bucket.objects[f"{STEM}/{row['key']}.png"]
        assert (row["file"], row["file_offset"], row["file_length"]) == (file.file, 0, len(data))
        assert row["sha256"] == file.sha256 == hashlib.sha256(data).hexdigest()
        assert (file.rows, file.bytes) == (1, len(data))


@pytest.mark.parametrize("sink", ["webdataset", "parquet"])
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), workers=st.integers(1, 4), sizes=st.lists(st.integers(1, 300), max_size=12))
def test_equal_samples_give_equal_files_whatever_the_threads_do(sink, seed, workers, sizes):
    def make(dawdle):
        bucket = MemoryBucket(before_write=dawdle)
        with ThreadPoolExecutor(workers) as pool, open_writer(bucket, pool, sink=sink, backlog_bytes=300_000) as writer:
            for number, size in enumerate(sizes):
                writer.add(a_row(number, attempt=random.random()), an_image(number, size))
                writer.add_row({"key": f"failed-{number}", "status": "failed"})
            _, files = writer.finish()
        return bucket.objects, files

    pauses = random.Random(seed)
    assert make(lambda key, size: time.sleep(pauses.random() / 500)) == make(lambda key, size: None)


def test_rows_without_an_image_keep_their_place(executor):
    with open_writer(MemoryBucket(), executor) as writer:
        writer.add(a_row(0), an_image(0))
        writer.add_row(a_row(1, status="failed", error_code="LM1101"))
        writer.add(a_row(2), an_image(2))
        rows, files = writer.finish()
    assert [row["status"] for row in rows] == ["ok", "failed", "ok"]
    assert "file" not in rows[1]
    assert files[0].rows == 2


@pytest.mark.parametrize("sink", ["webdataset", "files", "parquet"])
def test_a_shard_without_images_writes_nothing(executor, sink):
    bucket = MemoryBucket()
    with open_writer(bucket, executor, sink=sink) as writer:
        writer.add_row(a_row(0, status="failed"))
        rows, files = writer.finish()
    assert (len(rows), files, bucket.objects) == (1, (), {})


def test_an_image_that_cannot_be_encoded_is_a_failed_row(executor, monkeypatch):
    def encode(pixels, settings, imprint):
        if pixels[0, 0, 0] == 13:
            raise RuntimeError("bad luck")
        return b"image"

    monkeypatch.setattr(writer_module, "encode", encode)
    with open_writer(MemoryBucket(), executor) as writer:
        for number in (12, 13, 14):
            writer.add(a_row(number), np.full((4, 4, 3), number, np.uint8))
        rows, files = writer.finish()
    assert [row["status"] for row in rows] == ["ok", "failed", "ok"]
    assert (rows[1]["error_code"], rows[1].get("file")) == ("LM1602", None)
    assert "bad luck" in rows[1]["error"]
    assert files[0].rows == 2


def test_an_exception_in_the_middle_leaves_no_tar(executor):
    def broken_off():
        with open_writer(bucket, executor) as writer:
            for number in range(20):
                writer.add(a_row(number), an_image(number, 300))
            raise ZeroDivisionError

    bucket = MemoryBucket()
    with pytest.raises(ZeroDivisionError):
        broken_off()
    assert bucket.objects == {}


@pytest.fixture
def small_groups(monkeypatch):
    """Of Parquet: each image is stored once it comes, as in a tar."""
    monkeypatch.setattr(parquet_sink, "GROUP_BYTES", 1)


@pytest.mark.parametrize("sink", ["webdataset", "files", "parquet"])
@pytest.mark.parametrize("broken_at", [1, 20, 30])
def test_a_storage_error_fails_the_shard(executor, small_groups, sink, broken_at):
    writes = 0

    def break_down(key, size):
        nonlocal writes
        writes += 1
        if writes >= broken_at:
            raise StorageError(Problem("LM1301", "the store is gone"))

    bucket = MemoryBucket(before_write=break_down)
    with pytest.raises(StorageError, match="the store is gone"):
        write(bucket, executor, 30, size=300, sink=sink)
    assert not {TAR, PARQUET} & bucket.objects.keys()


def test_adding_to_a_broken_store_does_not_wait_for_ever(executor):
    def break_down(key, size):
        raise StorageError(Problem("LM1301", "the store is gone"))

    bucket = MemoryBucket(before_write=break_down)
    with pytest.raises(StorageError):
        write(bucket, executor, 100_000, size=64, backlog_bytes=1_000_000)


@pytest.mark.parametrize("sink", ["webdataset", "files", "parquet"])
def test_a_store_that_stands_still_holds_the_model_back(executor, small_groups, sink):
    """With room for ten images, `add` stands still soon after, and goes on when the store does."""
    gate = threading.Event()
    bucket = MemoryBucket(before_write=lambda key, size: gate.wait())
    image = an_image(0, 300)
    added = 0
    with open_writer(bucket, executor, sink=sink, backlog_bytes=10 * image.nbytes) as writer:

        def add_all():
            nonlocal added
            for number in range(200):
                writer.add(a_row(number), image)
                added += 1

        thread = threading.Thread(target=add_all)
        thread.start()
        counts = iter(lambda: (time.sleep(0.2), added)[1], None)
        stuck_at = next(later for earlier, later in pairwise(counts) if earlier == later)
        assert 9 <= stuck_at <= 10 + 2 * 16  # the backlog, and of loose files those being put
        gate.set()
        thread.join()
        rows, _ = writer.finish()
        assert len(rows) == 200
        assert writer.seconds["upload_wait"] > 0.1


def test_what_parquet_collects_for_a_row_group_is_part_of_the_backlog(executor, monkeypatch):
    """With room for 30 images, of which 20 are a row group that the store does not take."""
    image = an_image(0, 300)
    monkeypatch.setattr(parquet_sink, "GROUP_BYTES", 20 * image.nbytes)
    gate, added = threading.Event(), []
    bucket = MemoryBucket(before_write=lambda key, size: gate.wait())
    with open_writer(bucket, executor, sink="parquet", backlog_bytes=30 * image.nbytes) as writer:

        def add_all():
            for number in range(100):
                writer.add(a_row(number), image)
                added.append(number)

        thread = threading.Thread(target=add_all)
        thread.start()
        counts = iter(lambda: (time.sleep(0.2), len(added))[1], None)
        stuck_at = next(later for earlier, later in pairwise(counts) if earlier == later)
        gate.set()
        thread.join()
        writer.finish()
    assert 25 <= stuck_at <= 31


def test_slow_encoders_are_named_as_the_cause(executor, monkeypatch):
    monkeypatch.setattr(writer_module, "encode", lambda pixels, settings, imprint: time.sleep(0.01) or b"image")
    image = an_image(0, 300)
    with open_writer(MemoryBucket(), executor, backlog_bytes=3 * image.nbytes) as writer:
        for number in range(20):
            writer.add(a_row(number), image)
        rows, _ = writer.finish()
        assert {row["status"] for row in rows} == {"ok"}
        assert writer.seconds["encode_wait"] > writer.seconds["upload_wait"]


def test_an_image_larger_than_the_backlog_goes_through(executor):
    rows, _ = write(MemoryBucket(), executor, 5, size=300, backlog_bytes=1000)
    assert [row["status"] for row in rows] == ["ok"] * 5


def test_natural_pixels_come_back_from_a_view_of_a_batch(executor):
    batch = np.stack([natural_image(64, seed) for seed in range(4)])
    bucket = MemoryBucket()
    with open_writer(bucket, executor) as writer:
        for number, pixels in enumerate(batch):
            writer.add(a_row(number), pixels)
        rows, _ = writer.finish()
    for row, pixels in zip(rows, batch, strict=True):
        image = bucket.read(row["file"], row["file_offset"], row["file_length"])
        assert np.array_equal(decode(image), pixels)


@pytest.mark.parametrize(("sink", "size"), [("webdataset", 1800), ("files", 8), ("parquet", 1800)])
def test_to_abort_takes_seconds_also_when_the_store_is_away(executor, monkeypatch, caplog, small_groups, sink, size):
    """The tar is larger than a part, so that an upload has begun; the files are being put."""
    with start_moto() as server:
        bucket = open_bucket(place_on(server, server.endpoint, monkeypatch).url)
        server.kill_gateway()
        writer = open_writer(bucket, executor, sink=sink)
        for number in range(2):
            writer.add(a_row(number), an_image(number, size))
        writer._submit()
        wait_until(lambda: "trying again" in caplog.text, 60, "the first request to be tried again")
        began = time.monotonic()
        writer.abort()
        assert time.monotonic() - began < 60  # 1 to 5; the store is otherwise waited for 900
