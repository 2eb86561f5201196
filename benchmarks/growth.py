"""How cost grows: images a second against shard size, batch size, workers and the size of the table.

`python -m benchmarks.growth`: some six minutes. Shards, batches and workers with the demo's model, whole jobs,
start-up excluded; the table with images so small that only the rows count. Not part of `make bench`.
"""

from collections.abc import Iterator
from typing import Any

from benchmarks import demo_job
from benchmarks.baselines.task import Task
from benchmarks.contest import Contender, contest, whole_job
from benchmarks.timing import print_table, write_results

IMAGES, STEPS = 320, 4
TINY = {"width": 8, "height": 8, "batch": 256}


def points() -> Iterator[tuple[str, int, Contender]]:
    """What is varied, its value, and the job."""
    for shard in (20, 40, 80, 160, 320):
        yield "images in a shard", shard, whole_job(demo_job.task(IMAGES, steps=STEPS), shard_size=shard)
    for batch in (1, 2, 4, 8, 16, 32):
        yield "images in a batch", batch, whole_job(demo_job.task(IMAGES, steps=STEPS, batch=batch), shard_size=80)
    for workers in (1, 2, 3, 4):
        job = whole_job(demo_job.task(IMAGES, steps=STEPS), shard_size=40, workers=workers)
        yield "workers on two cores", workers, job
    for rows in (1_000, 10_000, 100_000, 400_000):
        yield "rows of the table", rows, whole_job(Task(model="fake", images=rows, **TINY), shard_size=2_000)


def main() -> None:
    """Measure, print, write."""
    rows: list[dict[str, Any]] = []
    for what, value, job in points():
        (outcome,) = contest({f"{what}: {value:,}": job}, 1).popitem()[1]
        rows.append({"against": what, "value": value, "images/s": outcome.rate, "with start-up": outcome.overall})
    print_table(rows)
    write_results("growth", rows)


if __name__ == "__main__":
    main()
