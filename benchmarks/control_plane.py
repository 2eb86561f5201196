"""How many rows a second pass through everything but a model: plan, lease, Ray, batches, tars, commits, index.

`python -m benchmarks.control_plane [WORKERS ...]`. Whole jobs through the command line, with the smallest images that a
job may ask for (8 x 8 pixels of `fake`). The rate is that of the rows by which a large job is larger than a small one,
over the seconds by which it takes longer: what starting and ending Ray costs is in neither.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.timing import print_table, write_results

SMALL, LARGE = 10_000, 110_000
ROUNDS = 3
SHARD = 2_000
BATCH = 512


def job(folder: Path, rows: int, workers: int) -> float:
    """Seconds of one whole job."""
    table = pa.table({"prompt": [f"a painting of {number} foxes in the snow" for number in range(rows)]})
    pq.write_table(table, folder / "prompts.parquet", row_group_size=65_536)
    flags = {
        "--prompts": folder / "prompts.parquet",
        "--output": folder / "out",
        "--model": "fake",
        "--width": 8,
        "--height": 8,
        "--batch-size": BATCH,
        "--shard-size": SHARD,
        "--workers": workers,
        "--image-format": "png",
        "--check": "none",
    }
    words = [str(word) for flag in flags.items() for word in flag]
    began = time.perf_counter()
    command = [Path(sys.executable).parent / "lightmill", "run", *words, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    seconds = time.perf_counter() - began
    assert json.loads(done.stdout)["totals"]["ok"] == rows
    return seconds


def main() -> None:
    """Measure, print, write."""
    rows = []
    for workers in map(int, sys.argv[1:] or ("1", "2")):
        seconds: dict[int, list[float]] = {SMALL: [], LARGE: []}
        for _ in range(ROUNDS):
            for size, found in seconds.items():
                with tempfile.TemporaryDirectory() as folder:
                    found.append(job(Path(folder), size, workers))
        small, large = median(seconds[SMALL]), median(seconds[LARGE])
        rate = (LARGE - SMALL) / (large - small)
        rows.append({"workers": workers, "small job s": small, "large job s": large, "rows/s": rate})
    print_table(rows)
    write_results("control_plane", rows)


if __name__ == "__main__":
    main()
