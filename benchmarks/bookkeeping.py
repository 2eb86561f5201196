"""Book-keeping at scale, without images: what planning, resuming and driving cost when a job is large.

`python -m benchmarks.bookkeeping [plan] [resume] [drive] [hand_out]`. Each part runs in a process of its own, whose
peak of memory is counted.

- `plan`: `lightmill plan --check none` of a Parquet table of 100 million rows. Allowed: 10 s and 500 MiB.
- `resume`: from the command to the knowledge of what is missing, over 10,000 committed shards in a folder; allowed:
  10 s. And writing the index of as many.
- `drive`: a million shards through the driver, with workers that take no time and a store that keeps nothing: its
  memory at the first 100,000 and at the end.
- `hand_out`: 1,000 workers that take 1.5 s for a shard, and 100,000 shards: from the report of a shard to the next one
  for its worker, with the commit between them. Allowed: 10 ms at the median, and no memory.
"""

import heapq
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from actors import metadata
from actors.models.model import ModelInfo
from actors.recipe import LaneRecipe
from actors.records import Beat, DataFile, Shard, ShardOrder, ShardReport, sample_key
from actors.storage.bucket import ObjectInfo
from actors.storage.folder import FolderBucket
from benchmarks.memory import peak_mib, resident_mib
from benchmarks.timing import print_table, write_results
from jobs import index
from jobs.catalog import Catalog
from jobs.commit import Committer
from jobs.driver import Driver, Work
from jobs.events import Beaten, Event, Made, Ready
from jobs.lanes import lane_recipes
from jobs.lease import Lease
from jobs.manifest import Manifest
from jobs.order import RunOrder
from jobs.plan import Plan
from jobs.pool import WorkerPool
from jobs.promise import make_promise
from jobs.spec import JobSpec
from jobs.status import Progress

ROWS = 100_000_000
GROUP = 65_536
COMMITTED = 10_000
SHARDS = 1_000_000
EARLY = 100_000
MANY_WORKERS = 1_000
SHARD_SECONDS = 1.5
Facts = dict[str, Any]


def plan(folder: Path) -> Facts:
    """The command line itself, on a table that it has never seen."""
    table = folder / "prompts.parquet"
    group = pa.table({"prompt": [f"a photograph of the number {row}" for row in range(GROUP)]})
    with pq.ParquetWriter(table, group.schema, compression="zstd") as writer:
        for start in range(0, ROWS, GROUP):
            writer.write_table(group.slice(0, min(GROUP, ROWS - start)))
    job = folder / "job.yaml"
    job.write_text(f"prompts: {table}\noutput: {folder / 'out'}\nmodels: [{{model: fake}}]\n")
    begun = time.monotonic()
    command = [sys.executable, "-m", "cluster", "plan", str(job), "--check", "none"]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    peak = 0.0
    while child.poll() is None:
        peak = max(peak, peak_mib(child.pid))
        time.sleep(0.01)
    assert child.returncode == 0
    return {"rows": ROWS, "seconds": time.monotonic() - begun, "peak_mib": peak}


def resume(folder: Path) -> Facts:
    """A job of which every second shard is there."""
    manifest = make_manifest(folder, rows=2 * COMMITTED, shard_size=1)
    bucket = FolderBucket(folder / "out")
    (folder / "out" / "metadata").mkdir()
    for number in range(0, 2 * COMMITTED, 2):
        report = make_report(manifest.plan.shard(number))
        (folder / "out" / metadata.key(report.shard)).write_bytes(report.metadata)
    begun = time.monotonic()
    promise = make_promise(bucket, RunOrder(spec=manifest.spec, check="none"), lambda text: None)
    with Lease(bucket, promise.store, "run") as lease:
        found = Catalog.read(bucket, promise.keep(bucket, lease.require).shards)
    seconds = time.monotonic() - begun
    assert found.committed == COMMITTED
    begun = time.monotonic()
    index.build(bucket, lambda: None, lambda totals: None)
    return {"committed": COMMITTED, "seconds": seconds, "index_seconds": time.monotonic() - begun}


def drive(folder: Path) -> Facts:
    """Memory of a driver, early and late."""
    pool = InstantPool(EARLY)
    seconds = drive_all(folder, pool, SHARDS, workers=4)
    early, late = pool.early_mib, resident_mib()
    return {"shards": SHARDS, "shards_per_second": SHARDS / seconds, "early_mib": early, "late_mib": late}


def hand_out(folder: Path) -> Facts:
    """How soon one of many workers gets its next shard."""
    shards = SHARDS // 10
    pool = TimedPool(EARLY // 10)
    drive_all(folder, pool, shards, workers=MANY_WORKERS)
    late = resident_mib()
    times = sorted(pool.waits)
    return {
        "workers": MANY_WORKERS,
        "shards": shards,
        "median_ms": 1000 * times[len(times) // 2],
        "p99_ms": 1000 * times[len(times) * 99 // 100],
        "early_mib": pool.early_mib,
        "late_mib": late,
    }


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
        seconds={"generate": 0.1},
    )


class InstantPool:
    """Workers that have made a shard as soon as they get it."""

    def __init__(self, early: int) -> None:
        """`early`: after how many shards memory is looked at."""
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


class TimedPool(InstantPool):
    """Workers that take their time for a shard, each another one, and so report one by one."""

    def __init__(self, early: int) -> None:
        super().__init__(early)
        self.waits = array("d")
        """Seconds from the report of a shard to the next one that its worker is given."""
        self._due: list[tuple[float, int, Event]] = []
        self._busy_until: dict[str, float] = {}
        self._reported: dict[str, float] = {}

    def assign(self, worker: str, order: ShardOrder) -> None:
        now = time.perf_counter()
        if worker in self._reported:
            self.waits.append(now - self._reported.pop(worker))
        begun = max(now, self._busy_until.get(worker, 0.0))
        self._busy_until[worker] = done = begun + SHARD_SECONDS * random.uniform(0.5, 1.5)
        super().assign(worker, order)
        for second in (begun, done, done):
            heapq.heappush(self._due, (second, len(self._due) + 10 * order.shard.index, self._events.get()))

    def poll(self, timeout: float) -> Iterator[Event]:
        while not self._events.empty():  # who is ready
            yield self._events.get()
        now = time.perf_counter()
        time.sleep(max(0.0, min(timeout, self._due[0][0] - now)) if self._due else timeout)
        while self._due and self._due[0][0] <= time.perf_counter():
            _, _, event = heapq.heappop(self._due)
            if isinstance(event, Made):
                self._reported.setdefault(event.worker, time.perf_counter())
            yield event


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


PARTS: dict[str, Callable[[Path], Facts]] = {"plan": plan, "resume": resume, "drive": drive, "hand_out": hand_out}


def apart(name: str) -> Facts:
    """The facts of a part, from a child process."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reader)
        with tempfile.TemporaryDirectory(prefix="bookkeeping-") as folder, os.fdopen(writer, "w") as out:
            json.dump(PARTS[name](Path(folder)), out)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    os.waitpid(pid, 0)
    facts: Facts = json.loads(text)
    return facts


def main() -> None:
    """Print a table, and keep it."""
    names = sys.argv[1:] or list(PARTS)
    rows = [
        {"part": name, "fact": fact, "value": round(value, 2)} for name in names for fact, value in apart(name).items()
    ]
    print_table(rows)
    write_results("bookkeeping", rows)


if __name__ == "__main__":
    main()
