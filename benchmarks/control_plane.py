"""How many rows a second pass through everything but a model: lease, Ray, batches, tars, commits.

`python -m benchmarks.control_plane [WORKERS ...]`. Whole jobs through the command line, with the smallest images that a
job may ask for (8 x 8 pixels of `fake`). The rate is the median of those from one commit to the tenth after it: what
starting and ending Ray costs is in none.
"""

import json
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.timing import print_table, write_results

ROWS, BEFORE, WINDOW = 150_000, 10_000, 20_000
"""Of a job; those after which counting begins, when all workers are at work; and those of one rate."""
SHARD = 2_000
BATCH = 512


def job(folder: Path, workers: int) -> tuple[float, list[float]]:
    """Seconds of one whole job, and its rates."""
    table = pa.table({"prompt": [f"a painting of {number} foxes in the snow" for number in range(ROWS)]})
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
    assert json.loads(done.stdout)["totals"]["ok"] == ROWS
    commits = sorted(path.stat().st_mtime for path in (folder / "out" / "metadata").glob("*.parquet"))
    ends = commits[BEFORE // SHARD - 1 :: WINDOW // SHARD]
    return seconds, [WINDOW / (later - earlier) for earlier, later in pairwise(ends)]


def main() -> None:
    """Measure, print, write."""
    rows = []
    for workers in map(int, sys.argv[1:] or ("1", "2")):
        with tempfile.TemporaryDirectory() as folder:
            seconds, rates = job(Path(folder), workers)
        rows.append({"workers": workers, "job s": seconds, "rows/s": median(rates), "slowest": min(rates)})
    print_table(rows)
    write_results("control_plane", rows, by=["workers"])


if __name__ == "__main__":
    main()
