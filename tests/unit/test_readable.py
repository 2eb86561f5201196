"""What the writer leaves behind is read by the libraries people use, with no code of ours."""

import gc
import warnings
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from actors import metadata
from actors.encoding import decode
from actors.records import SCHEMA_VERSION, Shard, sample_key
from actors.settings import EncodingSettings
from actors.storage.opening import open_bucket
from actors.writer import ShardWriter
from benchmarks.natural import natural_image

CARRIED = pa.schema([("category", pa.string()), ("note", pa.string()), ("tags", pa.list_(pa.string()))])
IMAGES = [natural_image(64, seed) for seed in range(8)]


def a_row(number):
    """Columns that are empty in the first rows are where readers that guess types stumble."""
    late = number >= 6
    return {
        "schema_version": SCHEMA_VERSION,
        "key": sample_key(number, 0, 0),
        "status": "ok",
        "prompt": f"a cat, number {number} ❄",
        "seed": 2**53 - 1 - number,
        "seed_rejected": 5 if late else None,
        "guidance_scale": 7.0 if number < 6 else 7.5,
        "created_at": datetime.now(UTC),
        "category": "animals",
        "note": "late" if late else None,
        "tags": ["a", "b"] if late else [],
    }


@pytest.fixture(scope="module", params=["webp", "png", "jpeg"])
def output(request, tmp_path_factory):
    """A folder with two shards of four images each."""
    folder = tmp_path_factory.mktemp(request.param)
    bucket = open_bucket(str(folder))
    with ThreadPoolExecutor(2) as pool:
        for index in range(2):
            shard = Shard(index, 0, 4 * index, 4 * index + 4)
            encoding = EncodingSettings(format=request.param)
            with ShardWriter(bucket, shard, "a", sink="webdataset", encoding=encoding, executor=pool) as writer:
                for number in range(shard.start, shard.stop):
                    writer.add(a_row(number), IMAGES[number])
                rows, files = writer.finish()
            data = metadata.metadata_file(rows, CARRIED, shard=shard, attempt="a", files=files)
            bucket.put(metadata.key(shard), data)
    return folder, request.param


def assert_same(pixels, number, kind):
    if kind == "jpeg":
        assert np.abs(np.asarray(pixels, int) - IMAGES[number]).mean() < 15
    else:
        assert np.array_equal(np.asarray(pixels), IMAGES[number])


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_webdataset_reads_the_tars(output):
    import webdataset

    folder, kind = output
    tars = sorted(map(str, folder.glob("images/*.tar")))
    samples = list(webdataset.WebDataset(tars, shardshuffle=False).decode("rgb8"))
    gc.collect()  # it leaves its files open
    assert [sample["__key__"] for sample in samples] == [sample_key(number, 0, 0) for number in range(8)]
    for number, sample in enumerate(samples):
        assert_same(sample[kind], number, kind)
        assert sample["json"]["prompt"] == f"a cat, number {number} ❄"
        assert sample["json"]["seed"] == 2**53 - 1 - number


def test_datasets_reads_the_tars(output, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its dependencies, at import
        import datasets
    folder, kind = output
    tars = sorted(map(str, folder.glob("images/*.tar")))
    datasets.disable_progress_bars()
    loaded = datasets.load_dataset("webdataset", data_files=tars, split="train", cache_dir=str(tmp_path))
    assert loaded["__key__"][:] == [sample_key(number, 0, 0) for number in range(8)]
    for number, sample in enumerate(loaded):
        assert_same(sample[kind], number, kind)
        assert sample["json"]["prompt"] == f"a cat, number {number} ❄"
    assert loaded[7]["json"]["guidance_scale"] == 7.5


def test_duckdb_finds_each_image_in_its_tar(output):
    folder, kind = output
    query = f"""
        select key, file, file_offset, file_length, category, note, tags
        from '{folder}/metadata/*.parquet' where status = 'ok' order by key
    """
    found = duckdb.sql(query).fetchall()
    assert [row[0] for row in found] == [sample_key(number, 0, 0) for number in range(8)]
    for number, (_, file, offset, length, category, note, tags) in enumerate(found):
        data = (folder / file).read_bytes()[offset : offset + length]
        assert_same(decode(data), number, kind)
        assert (category, note, tags) == ("animals", *(("late", ["a", "b"]) if number >= 6 else (None, [])))
