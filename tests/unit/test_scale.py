"""What the driver does for a shard does not grow with the workers, nor what it remembers with the shards. In counts of
lines and of bytes: seconds are for `benchmarks/bookkeeping.py`."""

import sys
import tracemalloc
from contextlib import contextmanager
from pathlib import Path

import jobs
from jobs.plan import Plan
from paced_pool import PacedPool, drive_paced

MOST_BYTES = 64
"""For each shard: its number, which the test itself keeps, has 32, and the least that a driver could keep as many."""
JOBS = str(Path(jobs.__file__).parent)


@contextmanager
def counted_lines():
    """Lines of `jobs/` that this thread runs, each time a loop comes to them."""
    counts = {}

    def line(frame, event, _):
        if event == "line":
            name = Path(frame.f_code.co_filename).stem
            counts[name] = counts.get(name, 0) + 1
        return line

    before = sys.gettrace()
    sys.settrace(lambda frame, *_: line if frame.f_code.co_filename.startswith(JOBS) else None)
    try:
        yield counts
    finally:
        sys.settrace(before)


def lines_per_shard(workers):
    shards = 8 * workers
    costs = [1.0 + 0.01 * (index % 7) for index in range(shards)]
    with counted_lines() as counts:
        drive_paced(PacedPool([1.0], costs.__getitem__, batch=8), Plan((8 * shards,), 8, 1), (workers,))
    return sum(counts.values()) / shards, counts


def test_a_hand_out_costs_the_same_with_many_workers():
    few, _ = lines_per_shard(10)
    many, counts = lines_per_shard(120)
    assert many < 1.5 * few, counts


def test_what_the_driver_remembers_does_not_grow_with_the_shards():
    pool = PacedPool([1.0, 2.0], batch=1, load=0.1, upload=0.1)
    remembered = {}
    shards = 2_000

    def watch():
        made = pool.given.total()
        if made in (500, 1_900) and made not in remembered:
            remembered[made] = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, f"{JOBS}/*")])

    pool.watch = watch
    tracemalloc.start()
    try:
        drive_paced(pool, Plan((shards,), 1, 1), (4,))
    finally:
        tracemalloc.stop()
    growth = remembered[1_900].compare_to(remembered[500], "lineno")
    assert sum(stat.size_diff for stat in growth) < MOST_BYTES * 1_400, growth
