"""Nobody: a real driver, and around it workers that take no time, a store that keeps nothing, and no one to hear it."""

import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue

import pyarrow as pa
import pyarrow.parquet as pq

from actors import metadata
from actors.models.model import ModelInfo
from actors.recipe import LaneRecipe
from actors.records import Beat, DataFile, Shard, ShardOrder, ShardReport, sample_key
from actors.storage.bucket import ObjectInfo
from actors.storage.folder import FolderBucket
from benchmarks.memory import resident_mib
from jobs.catalog import Catalog
from jobs.commit import Committer
from jobs.driver import Driver
from jobs.events import Beaten, Event, Made, Ready
from jobs.lanes import lane_recipes
from jobs.manifest import Manifest
from jobs.order import RunOrder
from jobs.plan import Plan
from jobs.pool import WorkerPool
from jobs.promise import make_promise
from jobs.spec import JobSpec
from jobs.status import Progress
from jobs.work import Work


def drive_all(folder: Path, pool: WorkerPool, shards: int, workers: int) -> float:
    """Seconds in which a driver has these workers make these shards."""
    manifest = make_manifest(folder, rows=10, shard_size=1)
    bucket = NoBucket()
    work = Work(
        plan=Plan((shards,), 1, 1),
        recipes=lane_recipes(manifest, manifest.spec, 0),
        workers=(workers,),
        catalog=Catalog(shards),
        committer=Committer(bucket, NoLease(), "strong"),  # type: ignore[arg-type]
        max_attempts=3,
    )
    begun = time.monotonic()
    Driver(work, pool, Progress(bucket, "drive", shards, 0), NoLeash()).run()  # type: ignore[arg-type]
    return time.monotonic() - begun


def make_manifest(folder: Path, rows: int, shard_size: int) -> Manifest:
    """A job that is promised in the folder."""
    pq.write_table(pa.table({"prompt": [f"{row}" for row in range(rows)]}), folder / "prompts.parquet")
    spec = JobSpec.model_validate(
        {
            "prompts": str(folder / "prompts.parquet"),
            "output": str(folder / "out"),
            "models": [{"model": "fake"}],
            "shard_size": shard_size,
        }
    )
    bucket = FolderBucket(folder / "out")
    promise = replace(make_promise(bucket, RunOrder(spec=spec, check="none"), lambda text: None), store="strong")
    return promise.keep(bucket, lambda: None)


def make_report(shard: Shard) -> ShardReport:
    """One image."""
    attempt = f"{shard.index:012x}"
    file = DataFile(f"images/{shard.name}-{attempt}.tar", 1, 1, "0" * 64)
    rows = [{"key": sample_key(shard.start, 0, 0), "source_row": shard.start, "status": "ok", "file": file.file}]
    data = metadata.metadata_file(rows, pa.schema([]), shard=shard, attempt=attempt, files=[file])
    return ShardReport(
        shard=shard,
        attempt=attempt,
        metadata=data,
        files=(file,),
        rows=1,
        failed=0,
        filtered=0,
        batch_size=1,
        seconds={"denoise": 0.1},
    )


class InstantPool:
    """Workers that have made a shard as soon as they get it."""

    def __init__(self, early: int) -> None:
        """`early`: after how many shards memory is looked at."""
        self.spent: Counter[str] = Counter()
        self.early_mib = 0.0
        self._early = early
        self._made = 0
        self._events: SimpleQueue[Event] = SimpleQueue()
        self._template = make_report(Shard(0, 0, 0, 1))
        self._started = 0
        self.spent: Counter[str] = Counter()

    def start(self, recipe: LaneRecipe, left_out: Collection[str]) -> str:
        name = f"{self._started}"
        self._started += 1
        self._events.put(Ready(name, ModelInfo(model="fake")))
        return name

    def assign(self, worker: str, order: ShardOrder) -> None:
        self._events.put(Beaten(worker, order.shard, Beat((f"{order.shard.index}",), 0, 0)))
        self._events.put(Beaten(worker, order.shard, Beat((), 1, 0)))
        self._events.put(Made(worker, replace(self._template, shard=order.shard)))
        self._made += 1
        if self._made == self._early:
            self.early_mib = resident_mib()

    def poll(self, timeout: float) -> Iterator[Event]:
        if self._events.empty():
            time.sleep(0.0005)
        while not self._events.empty():
            yield self._events.get()

    def drop(self, worker: str, shard: Shard) -> None: ...

    def show(self, status: Mapping[str, object], waiting: int) -> None: ...

    def stop(self) -> None: ...

    def end(self, worker: str) -> None: ...

    def close(self) -> None: ...


class NoBucket:
    """Takes everything and keeps nothing; every file of a shard is there."""

    url = "nowhere"

    def put(self, key: str, data: bytes, **conditions: object) -> ObjectInfo:
        return ObjectInfo(key, len(data), "", datetime.now(UTC))

    def head(self, key: str) -> ObjectInfo:
        return ObjectInfo(key, 1, "", datetime.now(UTC))


class NoLease:
    """Always held."""

    def require(self) -> None: ...


class NoLeash:
    """Nobody listens."""

    def __init__(self) -> None:
        self.stopping = threading.Event()

    def say(self, text: str) -> None: ...

    def status(self, status: object) -> None: ...
