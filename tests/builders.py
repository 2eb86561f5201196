"""Jobs for tests: a table, a spec, a manifest, reports as a worker hands them in, and whole finished outputs."""

import threading
import uuid
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from actors import metadata
from actors.records import DataFile, ShardReport, sample_key
from actors.storage.opening import open_bucket
from jobs.manifest import Manifest
from jobs.order import RunOrder
from jobs.promise import make_promise
from jobs.run import run
from jobs.spec import JobSpec
from thread_pool import ThreadPool

MODEL = {"model": "fake", "width": 16, "height": 16, "batch_size": 2, "threads": 1}
NO_FENCE = lambda: None  # noqa: E731


class QuietLeash:
    """What a driver's starter would hear."""

    def __init__(self):
        self.exit_code = 130
        self.stopping = threading.Event()
        self.said, self.errors, self.ends, self.images = [], [], [], []

    def say(self, text):
        self.said.append(text)

    def terminate(self):
        self.exit_code = 143
        self.stopping.set()

    def status(self, status):
        pass

    def image(self, finding):
        self.images.append(finding)

    def fail(self, error):
        self.errors.append(error)

    def end(self, exit_code, outcome):
        self.ends.append((exit_code, outcome))


def make_table(folder: Path, rows=10, **columns) -> str:
    """A Parquet file of so many prompts, or of these."""
    prompts = [f"colour {row}" for row in range(rows)] if isinstance(rows, int) else list(rows)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "prompts.parquet"
    pq.write_table(pa.table({"prompt": prompts, **columns}), path)
    return str(path)


def make_spec(folder: Path, rows=10, *, model="fake", workers=1, table=None, **changes) -> JobSpec:
    """A job over a small table in the folder, with its output beside it. Shards are of four images."""
    models = [{**MODEL, "model": model, "workers": {"max": workers}}]
    values = {
        "prompts": table or make_table(folder, rows),
        "output": str(folder / "out"),
        "models": models,
        "shard_size": 4,
        "encoding": {"format": "png"},
        "limits": {"max_failed_share": 1.0},
    }
    return JobSpec.model_validate({**values, **changes})


def make_manifest(spec: JobSpec, bucket=None, store="strong") -> Manifest:
    """Promise the job in its output, or in this bucket."""
    bucket = bucket or open_bucket(spec.output)
    promise = make_promise(bucket, RunOrder(spec=spec, check="none"), lambda text: None)
    return replace_store(promise, store).keep(bucket, NO_FENCE)


def replace_store(promise, store):
    return replace(promise, store=store)


def make_report(manifest: Manifest, index: int, bucket, attempt=None, statuses=(), only=None) -> ShardReport:
    """What a worker would hand in for the shard, its data file put; `statuses` of the first images, the rest are ok."""
    attempt = attempt or uuid.uuid4().hex[:12]
    shard = manifest.plan.shard(index)
    images = range(manifest.spec.images_per_prompt)
    keys = [sample_key(row, image, shard.lane) for row in range(shard.start, shard.stop) for image in images]
    known = dict(zip(keys, statuses, strict=False))
    wanted = [key for key in keys if only is None or key in only]
    data = f"{attempt} {wanted}".encode()
    file = DataFile(f"images/{shard.name}-{attempt}.tar", len(wanted), len(data), sha256(data).hexdigest())
    rows = [{"key": key, "status": known.get(key, "ok"), "attempt": attempt} for key in wanted]
    for row in rows:
        if row["status"] == "ok":
            row["file"] = file.file
    files = (file,) if any(row["status"] == "ok" for row in rows) else ()
    if files:
        bucket.put(file.file, data)
    return ShardReport(
        shard=shard,
        attempt=attempt,
        metadata=metadata.metadata_file(rows, pa.schema([]), shard=shard, attempt=attempt, files=files),
        files=files,
        rows=len(rows),
        failed=sum(row["status"] == "failed" for row in rows),
        filtered=0,
        batch_size=2,
        seconds={},
    )


def drive(spec: JobSpec, pool=None, purpose="run", leash=None, **order) -> QuietLeash:
    """Run the job in this process, on threads. What it said and how it ended is in what comes back."""
    leash = leash or QuietLeash()

    @contextmanager
    def workers(order):
        threads = pool or ThreadPool()
        try:
            yield threads, 0.0
        finally:
            threads.close()

    run(RunOrder(spec=spec, purpose=purpose, **order), leash, workers)
    return leash


def finished(folder: Path, rows=10, **changes) -> JobSpec:
    """A job that is done, down to its index."""
    spec = make_spec(folder, rows, **changes)
    leash = drive(spec)
    assert leash.ends[-1][0] == 0, leash.errors or leash.ends
    return spec


def read_rows(spec: JobSpec) -> dict[str, dict]:
    """All committed rows by key; fails where a key is there twice."""
    bucket = open_bucket(spec.output)
    rows = [
        row
        for info in bucket.list("metadata/")
        for row in metadata.read_metadata(bucket.get(info.key)).table.to_pylist()
    ]
    keyed = {row["key"]: row for row in rows}
    assert len(keyed) == len(rows), "an image has two rows"
    return keyed
