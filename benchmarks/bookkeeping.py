"""Book-keeping at scale, without images: what planning, resuming and driving cost when a job is large.

`python -m benchmarks.bookkeeping [plan] [resume] [drive]`. Each part runs in a process of its own, whose
peak of memory is counted.

- `plan`: `lightmill plan --check none` of a Parquet table of 100 million rows. Allowed: 10 s and 500 MiB.
- `resume`: from the command to the knowledge of what is missing, over 10,000 committed shards in a folder; allowed:
  10 s. And writing the index of as many.
- `drive`: a million shards through the driver, with workers that take no time and a store that keeps nothing: its
  memory at the first 100,000 and at the end.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from actors import metadata
from actors.storage.folder import FolderBucket
from benchmarks.memory import peak_mib, resident_mib
from benchmarks.nobody import InstantPool, drive_all, make_manifest, make_report
from benchmarks.timing import print_table, write_results
from jobs import index
from jobs.catalog import Catalog
from jobs.lease import Lease
from jobs.order import RunOrder
from jobs.promise import make_promise

ROWS = 100_000_000
GROUP = 65_536
COMMITTED = 10_000
SHARDS = 1_000_000
EARLY = 100_000
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


PARTS: dict[str, Callable[[Path], Facts]] = {"plan": plan, "resume": resume, "drive": drive}


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
