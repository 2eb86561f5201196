"""A dataset on which workers died is read by the libraries people use, with no code of ours: orphans are not read."""

import gc
import warnings
from pathlib import Path

import duckdb
import pyarrow.dataset as ds
import pytest

from mill import make_job

pytestmark = pytest.mark.xdist_group("readable")  # one process, so that the run is made once
IMAGES = 36
KEYS = [f"{row:012d}-0000-00" for row in range(IMAGES)]


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """Each worker dies once it has finished its third tar, before anybody knows of that tar."""
    rows = [{"prompt": f"a cat, number {number}", "subject": "cats"} for number in range(IMAGES)]
    job = make_job(tmp_path_factory.mktemp("readable"), rows, model="fake:pace=0.02", shard_size=4)
    with job.start("--json", env={"LIGHTMILL_CRASH": "upload.completed:3"}) as run:
        run.end()
    folder = Path(job.output)
    committed = set((folder / "shards.txt").read_text().split())
    assert {f"images/{tar.name}" for tar in folder.glob("images/*.tar")} > committed
    return folder


@pytest.fixture
def quiet_datasets(monkeypatch):
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its dependencies, at import
        import datasets
    datasets.disable_progress_bars()
    return datasets


def tars(folder):
    return [str(folder / line) for line in (folder / "shards.txt").read_text().split()]


def test_duckdb(output):
    query = f"select key, subject from '{output}/metadata/*.parquet' where status = 'ok' order by key"
    assert duckdb.sql(query).fetchall() == [(key, "cats") for key in KEYS]
    index = f"select sum(rows) from '{output}/index.parquet' where kind = 'data'"
    assert duckdb.sql(index).fetchall() == [(IMAGES,)]


def test_pyarrow(output):
    rows = ds.dataset(output / "metadata", format="parquet").to_table(filter=ds.field("status") == "ok")
    assert sorted(rows["key"].to_pylist()) == KEYS


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_webdataset(output):
    import webdataset

    keys = [sample["__key__"] for sample in webdataset.WebDataset(tars(output), shardshuffle=False)]
    gc.collect()  # it leaves its files open
    assert keys == KEYS


def test_datasets(output, tmp_path, quiet_datasets):
    loaded = quiet_datasets.load_dataset("webdataset", data_files=tars(output), split="train", cache_dir=tmp_path)
    assert loaded["__key__"][:] == KEYS


def test_datasets_by_the_card(output, tmp_path, quiet_datasets):
    """The folder as it is, as if it lay on a hub: its README.md says which tars are the data."""
    loaded = quiet_datasets.load_dataset(str(output), split="train", cache_dir=tmp_path)
    assert loaded["__key__"][:] == KEYS
