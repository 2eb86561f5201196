"""What it costs to find the rows that are new: seconds, memory and disk, of a first slot and of one without news.

`python -m benchmarks.only_new [ROWS ...]`, a table of each size. All of it lies on the local disk: at its most some 140
bytes a row, the table included.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from pathlib import Path
from threading import Event, Thread

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from actors.storage.opening import open_bucket
from benchmarks.memory import peak_mib
from benchmarks.timing import print_table, write_results
from cluster.schedule.news import pick, settle
from jobs.spec import JobSpec

ROWS = 2_000_000
GROUP = 65_536
Row = dict[str, float | str]


def write_prompts(path: Path, rows: int) -> None:
    """So many rows with ids, some 80 letters each."""
    schema = pa.schema([("id", pa.string()), ("prompt", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, GROUP):
            numbers = pa.array(range(start, min(start + GROUP, rows))).cast(pa.string())
            ids = pc.binary_join_element_wise("row-", pc.utf8_lpad(numbers, 12, "0"), "")
            words = ("a photograph of animal number ", numbers, " before a house by the sea")
            writer.write_table(pa.table([ids, pc.binary_join_element_wise(*words, "")], schema=schema))


def size_mib(folder: Path) -> float:
    """Of all files there; one that goes meanwhile has none."""
    size = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            size += path.stat().st_size if path.is_file() else 0
    return size / 2**20


@contextmanager
def watched(folder: Path) -> Iterator[list[float]]:
    """The size of a folder, every half second."""
    sizes, ended = [0.0], Event()

    def look() -> None:
        while not ended.wait(0.5):
            sizes.append(size_mib(folder))

    thread = Thread(target=look)
    thread.start()
    try:
        yield sizes
    finally:
        ended.set()
        thread.join()


def measured(folder: Path, step: str, act: Callable[[], object]) -> Row:
    """A step: its seconds; the most memory that the process had so far; the most that the step had on the local disk
    for itself; and the sizes of the ledger and of the slot's own table then."""
    began, cpu_began = time.perf_counter(), time.process_time()
    with watched(folder / "local") as sizes:
        act()
    row: Row = {
        "step": step,
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - cpu_began,
        "peak_mib": peak_mib(os.getpid()),
        "local_mib": max(sizes),
        "ledger_mib": size_mib(folder / "ledger"),
        "copy_mib": size_mib(folder / "out"),
    }
    print(row, flush=True)
    return row


def slots(rows: int) -> list[Row]:
    """A slot in which everything is new, its end, and one in which nothing is."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_prompts(folder / "prompts.parquet", rows)
        (folder / "local").mkdir()
        tempfile.tempdir = str(folder / "local")
        values = {"prompts": str(folder / "prompts.parquet"), "output": str(folder / "out")}
        spec = JobSpec.model_validate({**values, "models": [{"model": "fake"}]})
        ledger = open_bucket(str(folder / "ledger"))
        steps = [
            measured(folder, "all is new", lambda: pick(spec, ledger, "first", lambda: None)),
            measured(folder, "all is noted", lambda: settle(spec, ledger, "first", lambda: None)),
            measured(folder, "nothing is new", lambda: pick(spec, ledger, "second", lambda: None)),
        ]
        return [{"rows": rows, **step} for step in steps]


def main() -> None:
    """Each size in a process of its own; results so far are kept where a later one does not end."""
    results: list[Row] = []
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as process:
        for steps in process.map(slots, map(int, sys.argv[1:]) if len(sys.argv) > 1 else [ROWS]):
            results += steps
            write_results("only_new", results)
    print_table(results)


if __name__ == "__main__":
    main()
