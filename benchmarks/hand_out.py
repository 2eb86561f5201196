"""How soon one of many workers gets its next shard, and what memory the driver takes meanwhile.

`python -m benchmarks.hand_out`: 1,000 workers that take 1.5 s for a shard, and 100,000 shards: from the report of a
shard to the next one for its worker, with the commit between them. Allowed: 10 ms at the median, and no memory.
"""

import heapq
import random
import tempfile
import time
from array import array
from collections.abc import Iterator
from pathlib import Path

from actors.records import ShardOrder
from benchmarks.memory import resident_mib
from benchmarks.nobody import InstantPool, drive_all
from benchmarks.timing import print_table, write_results
from jobs.events import Event, Made

SHARDS = 100_000
EARLY = 10_000
WORKERS = 1_000
SHARD_SECONDS = 1.5


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


def main() -> None:
    """Print a table, and keep it."""
    pool = TimedPool(EARLY)
    with tempfile.TemporaryDirectory(prefix="hand-out-") as folder:
        drive_all(Path(folder), pool, SHARDS, workers=WORKERS)
    times = sorted(pool.waits)
    facts = {
        "workers": WORKERS,
        "shards": SHARDS,
        "median_ms": 1000 * times[len(times) // 2],
        "p99_ms": 1000 * times[len(times) * 99 // 100],
        "early_mib": pool.early_mib,
        "late_mib": resident_mib(),
    }
    rows = [{"fact": fact, "value": round(value, 2)} for fact, value in facts.items()]
    print_table(rows)
    write_results("hand_out", rows)


if __name__ == "__main__":
    main()
