"""Memory of the driver and of its worker over one job of 100,000 images, looked at twice a second.

`python -m benchmarks.flat_memory [IMAGES]`. The images are `fake`'s, of 64 pixels: what grows with each of them grows
here as well. Not part of `make bench`.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.baselines.task import Task
from benchmarks.contest import LIGHTMILL, environment
from benchmarks.timing import print_table, write_results

IMAGES = 100_000
SHARD = 1_000
SECONDS = 0.5
ROLES = {"driver": "-m jobs", "worker": "ray::WorkerActor"}
"""By what their command lines say; Ray names a worker's process after its actor."""


def watched(folder: Path) -> list[dict[str, Any]]:
    """MiB by role, with how many images were committed by then."""
    seen: list[dict[str, Any]] = []
    with (folder / "said").open("wb") as said:
        command = [*LIGHTMILL, "run", folder / "job.yaml", "--json"]
        run = subprocess.Popen(command, stdout=said, stderr=said, env=environment())
        began = time.monotonic()
        while run.poll() is None:
            mib = _resident(run.pid)
            done = len(list((folder / "out" / "metadata").glob("*.parquet"))) * SHARD
            seen.append({"s": round(time.monotonic() - began, 1), "images": done, **mib})
            time.sleep(SECONDS)
    assert run.returncode == 0, (folder / "said").read_text()[-2000:]
    return seen


def _resident(pid: int) -> dict[str, float]:
    """Of the largest process of each role, of all that this one has started."""
    mib = dict.fromkeys(ROLES, 0.0)
    try:
        processes = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return mib
    for process in processes:
        try:
            words, size = " ".join(process.cmdline()), process.memory_info().rss / 2**20
        except psutil.Error:
            continue
        for role, word in ROLES.items():
            if word in words:
                mib[role] = max(mib[role], size)
    return mib


def growth(seen: list[dict[str, Any]], role: str) -> dict[str, float]:
    """Of one role: the most there was while the worker made its second fifth, and its last, and the difference an
    image; and the most of all, which the driver has when it writes the index at the end."""
    working = [sample for sample in seen if sample["images"] and sample["worker"]]
    images = working[-1]["images"]

    def most(start: float, stop: float) -> float:
        return max(sample[role] for sample in working if start * images <= sample["images"] <= stop * images)

    early, late = most(0.2, 0.4), most(0.8, 1)
    each = (late - early) * 2**20 / (0.6 * images)
    highest = max(sample[role] for sample in seen)
    return {"early, MiB": early, "late, MiB": late, "bytes an image": each, "at most, MiB": highest}


def main() -> None:
    """Measure, print, write."""
    images = int(sys.argv[1]) if len(sys.argv) > 1 else IMAGES
    with tempfile.TemporaryDirectory(prefix="lightmill-bench-") as name:
        folder = Path(name)
        task = Task(model="fake", images=images, width=64, height=64, batch=64).placed(folder)
        (folder / "job.yaml").write_text(json.dumps(task.job(shard_size=SHARD)))
        seen = watched(folder)
    rows = [{"role": role, "images": images, **growth(seen, role)} for role in ROLES]
    print_table(rows)
    write_results("flat_memory", [*rows, {"samples": seen}])


if __name__ == "__main__":
    main()
