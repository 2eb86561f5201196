"""What must hold of every finished output, whatever happened on the way there.

Each promised image is exactly one row, its bytes are those of a run that nobody disturbed, readers with no code of ours
see neither more nor less, `verify` finds nothing, and the same command once more makes nothing.
"""

import functools
import gc
import hashlib
import json
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3
import duckdb

from actors.models.settings import WorkerSettings
from actors.storage.opening import open_bucket, split
from builders import drive
from jobs.manifest import Manifest
from jobs.spec import JobSpec
from jobs.verify import verify
from mill import Job


@dataclass(slots=True)
class Findings:
    """What an output holds. `lost` and `twice` are keys of images."""

    images: int
    ok: int
    lost: list[str]
    twice: list[str]
    faults: list[str]
    errors: Mapping[str, str]
    """The codes of the rows that are not ok, by key."""


class NoPool:
    """For a run that must find nothing left to do."""

    def start(self, recipe):
        raise AssertionError("workers were asked for")

    def close(self):
        pass


def check(job: Job, errors: Mapping[str, str] | None = None) -> Findings:
    """Assert all of it. `errors` are the images that cannot be, and why."""
    found = examine(job, errors or {})
    assert not found.lost, f"lost: {found.lost[:5]}"
    assert not found.twice, f"twice: {found.twice[:5]}"
    assert found.faults == []
    return found


def examine(job: Job, errors: Mapping[str, str]) -> Findings:
    """Look at everything, and name what is wrong."""
    spec = job.spec
    expected = undisturbed(job.file)
    with local_copy(spec.output) as folder:
        rows = duckdb.sql(f"select key, status, error_code, sha256, file from '{folder}/metadata/*.parquet'").fetchall()
        images = dict(read_images(spec.sink, folder, rows))
    counts = Counter(row[0] for row in rows)
    ok = {key: sha256 for key, status, _, sha256, _ in rows if status == "ok"}
    found = {key: code for key, status, code, _, _ in rows if status != "ok"}
    wanted = {key: sha256 for key, sha256 in expected.items() if key not in errors}
    faults = [
        *faults_of("the rows that are not ok", found, dict(errors)),
        *faults_of("the pictures by their rows", ok, wanted),
        *faults_of("the pictures as others read them", images, ok),
        *(str(problem) for checked in verified(spec) for problem in checked.faults),
        *made_by_another_run(spec),
    ]
    return Findings(
        images=len(rows),
        ok=len(ok),
        lost=sorted(expected.keys() - counts.keys()),
        twice=sorted(key for key, times in counts.items() if times > 1 or key not in expected),
        faults=faults,
        errors=found,
    )


def faults_of(what: str, found: Mapping[str, object], wanted: Mapping[str, object]) -> list[str]:
    """In a line, how two mappings differ."""
    differing = sorted(key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key))
    if not differing:
        return []
    key = differing[0]
    return [f"{what}: {len(differing)} differ, as {key}: {found.get(key)}, should be {wanted.get(key)}"]


@functools.lru_cache(maxsize=64)
def undisturbed(file: Path) -> Mapping[str, str]:
    """The SHA-256 of every image by its key, as a run makes them in this process in one go, without drills. On as many
    threads, which depend on how many workers share the machine."""
    spec = load(file)
    threads = Manifest.load(open_bucket(spec.output, spec.storage)).threads
    single = WorkerSettings(max=1)  # transformers cannot load two models at once in one process
    kind = "stages" if spec.stages else "models"
    calm_ones = tuple(
        one.model_copy(update={"model": without_drills(one.model), "workers": single, "threads": number})
        for one, number in zip(getattr(spec, kind), threads, strict=True)
    )
    with tempfile.TemporaryDirectory() as folder:
        calm = spec.model_copy(update={kind: calm_ones, "output": f"{folder}/out"})
        leash = drive(calm)
        assert leash.ends[-1][0] in (0, 4), leash.errors
        return dict(duckdb.sql(f"select key, sha256 from '{folder}/out/metadata/*.parquet'").fetchall())


def without_drills(model: str) -> str:
    """Only what changes pictures stays of a name."""
    name, _, options = model.partition(":")
    return f"{name}:natural=1" if "natural=1" in options.split(",") else name


def load(file: Path) -> JobSpec:
    return Job(file, file).spec


def read_images(sink: str, folder: Path, rows: list[tuple]) -> Iterator[tuple[str, str]]:
    """Each image as others read it: its key, and its SHA-256."""
    if sink == "files":
        return read_files(folder, rows)
    return read_tars(folder) if sink == "webdataset" else read_parquet(folder)


def read_parquet(folder: Path) -> Iterator[tuple[str, str]]:
    """As DuckDB finds them in the committed Parquet files, and in no others."""
    files = [str(folder / line) for line in (folder / "shards.txt").read_text().splitlines()]
    if files:
        for key, image in duckdb.sql(f"select key, image.bytes from read_parquet({files})").fetchall():
            yield key, hashlib.sha256(image).hexdigest()


def read_tars(folder: Path) -> Iterator[tuple[str, str]]:
    """As webdataset finds them: the images of the committed tars, and no others."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own, at import; and it leaves files open
        import webdataset

        tars = [str(folder / line) for line in (folder / "shards.txt").read_text().splitlines()]
        for sample in webdataset.WebDataset(tars, shardshuffle=False) if tars else ():
            (image,) = (data for name, data in sample.items() if name in ("webp", "png", "jpeg"))
            assert json.loads(sample["json"])["key"] == sample["__key__"]
            yield sample["__key__"], hashlib.sha256(image).hexdigest()
        gc.collect()


def read_files(folder: Path, rows: list[tuple]) -> Iterator[tuple[str, str]]:
    """One object for each image."""
    for key, _, _, _, file in rows:
        if file:
            yield key, hashlib.sha256((folder / file).read_bytes()).hexdigest()


def verified(spec: JobSpec) -> Iterator:
    bucket = open_bucket(spec.output, spec.storage)
    manifest = Manifest.load(bucket)
    assert manifest, "no manifest"
    return verify(bucket, manifest)


def made_by_another_run(spec: JobSpec) -> list[str]:
    """The same command once more: nothing, or what is wrong with it."""
    leash = drive(spec, NoPool())
    status, outcome = leash.ends[-1]
    return [] if "already there" in outcome["message"] else [f"run again, it ended with {status}: {outcome}"]


@contextmanager
def local_copy(output: str) -> Iterator[Path]:
    """The output as a folder, fetched with boto3 alone where it is elsewhere."""
    bucket, prefix = split(output)
    if bucket is None:
        yield Path(prefix)
        return
    with tempfile.TemporaryDirectory() as folder:
        s3 = boto3.client("s3")
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/"):
            for entry in page.get("Contents", ()):
                path = Path(folder) / entry["Key"].removeprefix(f"{prefix}/")
                path.parent.mkdir(parents=True, exist_ok=True)
                s3.download_file(bucket, entry["Key"], str(path))
        s3.close()
        yield Path(folder)
