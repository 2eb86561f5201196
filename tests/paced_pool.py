"""PacedPool: a WorkerPool of workers that take a known time, on a clock of its own, which takes none.

Nothing is left to chance: the same workers and shards give the same run, event by event.
"""

import heapq
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import count
from types import SimpleNamespace
from unittest.mock import patch

from actors.models.model import ModelInfo
from actors.records import Beat, Shard, ShardOrder, ShardReport
from builders import QuietLeash
from jobs.catalog import Catalog
from jobs.driver import Driver
from jobs.events import Beaten, Died, Event, Leaving, Made, Placed, Ready
from jobs.plan import Plan
from jobs.status import Progress
from jobs.work import Work
from memory_bucket import MemoryBucket

LONGEST_WAIT = 0.25
MODEL = SimpleNamespace(model="paced")


@dataclass
class Paced:
    """A worker: `pace` is how often longer it takes than an image costs."""

    name: str
    lane: int
    pace: float
    queue: deque[Shard] = field(default_factory=deque)
    making: Shard | None = None
    done: int = 0
    uploading: int = 0
    ready: bool = False
    gone: bool = False
    node: str = ""
    left_out: tuple[str, ...] = ()

    @property
    def is_idle(self) -> bool:
        return self.ready and not (self.making or self.queue or self.uploading)


class PacedPool:
    """`paces`: of the workers, in the order in which they are asked for, over and over. `cost`: seconds an image of a
    shard takes. `deaths`: at which second which worker dies."""

    def __init__(
        self,
        paces: list[float],
        cost: Callable[[int], float] = lambda index: 1.0,
        *,
        load: float = 5.0,
        batch: int = 4,
        upload: float = 0.5,
        room: int | None = None,
        deaths: dict[float, int] | None = None,
        nodes: int = 1,
        sick: Collection[str] = (),
        drains: dict[float, tuple[str, float]] | None = None,
    ) -> None:
        """`room`: for how many workers the cluster has a GPU; those beyond wait for one, first come, first served.

        `nodes`: machines, `node0` and so on; on `sick` ones workers die when they have loaded their model. `drains`: at
        which second which machine is announced to go, in how many seconds; it takes what is there with it.
        """
        self._nodes, self._sick = [f"node{number}" for number in range(nodes)], sick
        self._paces, self._cost = paces, cost
        self._load, self._batch, self._upload = load, batch, upload
        self._room = room
        self._heap: list[tuple[float, int, Callable[[], list[Event]]]] = []
        self._order = count()
        self._number = count()
        self._unplaced: deque[Paced] = deque()
        self.spent: Counter[str] = Counter()
        self.seconds = 0.0
        self.started: list[str] = []
        self.workers: dict[str, Paced] = {}
        self.given: Counter[int] = Counter()
        self.begun: Counter[int] = Counter()
        """How often each shard was handed out, and how often any worker began to make it."""
        self.busy: Counter[int] = Counter()
        """Seconds of devices, by lane."""
        self.watch: Callable[[], None] = lambda: None
        for second, number in (deaths or {}).items():
            self._at(second, lambda number=number: self._die(f"{number:04d}"))
        for second, (node, seconds) in (drains or {}).items():
            self._at(second, lambda node=node, seconds=seconds: self._drain(node, seconds))

    def now(self) -> float:
        return self.seconds

    def start(self, recipe: SimpleNamespace, left_out: Collection[str]) -> str:
        number = next(self._number)
        worker = Paced(f"{number:04d}", recipe.lane, self._paces[number % len(self._paces)])
        worker.left_out = tuple(left_out)
        self.workers[worker.name] = worker
        self.started.append(worker.name)
        self._unplaced.append(worker)
        self._place()
        return worker.name

    def assign(self, worker: str, order: ShardOrder) -> None:
        self.given[order.shard.index] += 1
        if worker in self.workers:
            self.workers[worker].queue.append(order.shard)
            self._begin(self.workers[worker])

    def drop(self, worker: str, shard: Shard) -> None:
        paced = self.workers[worker]
        if shard in paced.queue:
            paced.queue.remove(shard)
        elif paced.making == shard:
            paced.making = Shard(-1, 0, 0, 0)  # for the rest of the batch

    def poll(self, timeout: float) -> Iterator[Event]:
        self.watch()
        due = self._heap[0][0] if self._heap else float("inf")
        self.seconds = min(max(due, self.seconds), self.seconds + LONGEST_WAIT)
        while self._heap and self._heap[0][0] <= self.seconds:
            yield from heapq.heappop(self._heap)[2]()

    def show(self, status: Mapping[str, object], waiting: int) -> None: ...

    def stop(self) -> None: ...

    def end(self, worker: str) -> None:
        self.workers.pop(worker).gone = True
        self._place()

    def close(self) -> None: ...

    def _at(self, second: float, action: Callable[[], list[Event]]) -> None:
        heapq.heappush(self._heap, (second, next(self._order), action))

    def _place(self) -> None:
        placed = len(self.workers) - len(self._unplaced)
        while self._unplaced and (self._room is None or placed < self._room):
            worker = self._unplaced.popleft()
            if not worker.gone:
                placed += 1
                self._at(self.seconds, lambda worker=worker: self._placed(worker))
                self._at(self.seconds + self._time_to_load(worker), lambda worker=worker: self._loaded(worker))

    def _placed(self, worker: Paced) -> list[Event]:
        """On the machine with the fewest workers."""
        there = Counter(other.node for other in self.workers.values())
        worker.node = min((node for node in self._nodes if node not in worker.left_out), key=there.__getitem__)
        return [Placed(worker.name, worker.node, worker.node)] if not worker.gone else []

    def _drain(self, node: str, seconds: float) -> list[Event]:
        self._nodes.remove(node)
        for worker in self.workers.values():
            if worker.node == node:
                self._at(self.seconds + seconds, lambda name=worker.name: self._die(name))
        return [Leaving(node, seconds)]

    def _time_to_load(self, worker: Paced) -> float:
        return self._load

    def _loaded(self, worker: Paced) -> list[Event]:
        if worker.node in self._sick:
            return self._die(worker.name)
        worker.ready = not worker.gone
        return [Ready(worker.name, ModelInfo(model="paced"))] if worker.ready else []

    def _begin(self, worker: Paced) -> None:
        if worker.making is None and worker.queue:
            worker.making, worker.done = worker.queue.popleft(), 0
            self.begun[worker.making.index] += 1
            self._at(self.seconds, lambda: self._next_batch(worker))

    def _next_batch(self, worker: Paced) -> list[Event]:
        shard = worker.making
        if worker.gone or shard is None:
            return []
        size = shard.stop - shard.start
        images = min(self._batch, size - worker.done)
        if images <= 0:
            return self._generated(worker, shard)
        seconds = images * self._cost(shard.index) * worker.pace
        self.busy[shard.lane] += seconds
        beat = Beat((f"{shard.index}",), worker.done, 0)
        worker.done += images
        self._at(self.seconds + seconds, lambda: self._next_batch(worker))
        return [Beaten(worker.name, shard, beat)]

    def _generated(self, worker: Paced, shard: Shard) -> list[Event]:
        worker.making = None
        self._begin(worker)
        if shard.index < 0:
            return []
        worker.uploading += 1
        self._at(self.seconds + self._upload, lambda: self._uploaded(worker, shard))
        return [Beaten(worker.name, shard, Beat((), shard.stop - shard.start, 0))]

    def _uploaded(self, worker: Paced, shard: Shard) -> list[Event]:
        worker.uploading -= 1
        if worker.gone:
            return []
        report = ShardReport(
            shard=shard,
            attempt=f"{worker.name}-{next(self._order)}",
            metadata=b"",
            files=(),
            rows=shard.stop - shard.start,
            failed=0,
            filtered=0,
            batch_size=self._batch,
            seconds={},
        )
        return [Made(worker.name, report)]

    def _die(self, name: str) -> list[Event]:
        if name not in self.workers or not self.workers[name].node:
            return []
        self.end(name)
        return [Died(name, "killed by the test")]


class Committed:
    """A committer of which a test sees what it was given."""

    def __init__(self) -> None:
        self.attempts: list[tuple[int, str]] = []

    def commit(self, report: ShardReport) -> SimpleNamespace:
        self.attempts.append((report.shard.index, report.attempt))
        return SimpleNamespace(attempt=report.attempt)


class AtOnce:
    """An executor that has done what it is given when it returns."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def submit(self, work: Callable[..., object], *arguments: object) -> Future:
        future: Future = Future()
        future.set_result(work(*arguments))
        return future

    def __enter__(self) -> "AtOnce":
        return self

    def __exit__(self, *_: object) -> None: ...


def drive_paced(pool: PacedPool, plan: Plan, workers: tuple[int, ...]) -> tuple[Committed, QuietLeash]:
    """Make the whole plan. Every shard was committed once; when that was is on the pool's clock."""
    committed, leash = Committed(), QuietLeash()
    work = Work(
        plan=plan,
        recipes=tuple(SimpleNamespace(lane=lane, model=MODEL) for lane in range(len(plan.lane_rows))),
        workers=workers,
        catalog=Catalog(plan.shards),
        committer=committed,
        max_attempts=3,
    )
    progress = Progress(MemoryBucket(), "paced", plan.images, 0)
    with patch("jobs.driver.ThreadPoolExecutor", AtOnce):
        Driver(work, pool, progress, leash, pool.now).run()
    progress.close()
    leash.status_seen = progress.status().model_dump(mode="json")
    assert sorted(index for index, _ in committed.attempts) == list(range(plan.shards))
    return committed, leash
