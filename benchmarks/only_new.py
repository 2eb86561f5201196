"""What it costs to find the rows that are new: processor seconds, memory and what the ledger holds, of a first slot and
of one without news.

`python -m benchmarks.only_new [ROWS]`. Table, ledger and hashes are on the local disk: some 240 bytes a row.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from actors.storage.opening import open_bucket
from benchmarks.memory import peak_mib
from benchmarks.timing import print_table, write_results
from cluster.schedule.news import pick, settle
from jobs.spec import JobSpec

ROWS = 2_000_000
GROUP = 65_536


def write_prompts(path: Path, rows: int) -> None:
    """So many rows with ids, 80 letters each."""
    schema = pa.schema([("id", pa.string()), ("prompt", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, GROUP):
            numbers = range(start, min(start + GROUP, rows))
            prompts = [f"a photograph of animal number {number} before a house by the sea" for number in numbers]
            writer.write_table(pa.table([[f"row-{number:012d}" for number in numbers], prompts], schema=schema))


def measured(folder: Path, step: str, act: Callable[[], object], before: float) -> dict[str, float | str]:
    """A step's processor seconds, the most memory up to its end beyond what there was at the start, and the size of the
    ledger then."""
    began = time.process_time()
    act()
    seconds, mib = time.process_time() - began, peak_mib(os.getpid()) - before
    kept = sum(path.stat().st_size for path in (folder / "ledger").rglob("*") if path.is_file())
    print(f"{step}: {seconds:.0f} s, {mib:.0f} MiB, ledger {kept / 2**20:.0f} MiB", flush=True)
    return {"step": step, "cpu_seconds": seconds, "mib_above_start": mib, "ledger_mib": kept / 2**20}


def main() -> None:
    """A slot in which everything is new, its end, and one in which nothing is."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_prompts(folder / "prompts.parquet", rows)
        values = {"prompts": str(folder / "prompts.parquet"), "output": str(folder / "out")}
        spec = JobSpec.model_validate({**values, "models": [{"model": "fake"}]})
        ledger, before = open_bucket(str(folder / "ledger")), peak_mib(os.getpid())
        results = [
            measured(folder, "all is new", lambda: pick(spec, ledger, "first", lambda: None), before),
            measured(folder, "all is noted", lambda: settle(spec, ledger, "first", lambda: None), before),
            measured(folder, "nothing is new", lambda: pick(spec, ledger, "second", lambda: None), before),
        ]
    results = [{**result, "rows": rows} for result in results]
    print_table(results)
    write_results("only_new", results)


if __name__ == "__main__":
    main()
