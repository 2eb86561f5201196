"""ThreadPool: a WorkerPool whose workers are threads of this process, and which can do to them what befalls processes.

As on Ray, a worker goes on only once the driver has taken what it yielded.
"""

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Literal

from actors.errors import LightmillError
from actors.recipe import LaneRecipe
from actors.records import Beat, Shard, ShardOrder, ShardReport
from actors.worker import Worker
from jobs.events import Beaten, Broke, Died, Event, Made, Ready

Fate = Literal["deliver", "kill", "kill after", "freeze", "delay"]
"""Of an item that a worker yields. `kill`: the worker dies with it; `kill after`: when it is delivered. `freeze`: as
`kill`, for all that the driver sees, but the worker goes on after `thaw`. `delay`: it is delivered once all else is."""


@dataclass(slots=True)
class _Member:
    name: str
    worker: Worker | None = None
    gone: threading.Event = field(default_factory=threading.Event)
    """Nothing of it reaches the driver any more."""
    frozen: bool = False


class ThreadPool:
    """Real workers without Ray. `fate` is asked for every item; `runs` is how often each call is run."""

    def __init__(
        self,
        fate: Callable[[str, Shard, Beat | ShardReport], Fate] = lambda worker, shard, item: "deliver",
        *,
        runs: int = 1,
        assigned: Callable[[ShardOrder], None] = lambda order: None,
    ) -> None:
        self.spent: Counter[str] = Counter()
        self._fate = fate
        self._runs = runs
        self._assigned = assigned
        self._members: dict[str, _Member] = {}
        self._events: SimpleQueue[tuple[Event, threading.Event]] = SimpleQueue()
        self._late: list[tuple[Event, threading.Event]] = []
        self._threads: dict[threading.Thread, _Member] = {}
        self._thawed = threading.Event()
        self._started = 0

    def start(self, recipe: LaneRecipe, left_out: Collection[str]) -> str:
        member = _Member(f"{recipe.lane:02d}-{self._started:04d}")
        self._started += 1
        self._members[member.name] = member
        self._spawn(self._load, member, recipe)
        return member.name

    def assign(self, worker: str, order: ShardOrder) -> None:
        self._assigned(order)
        member = self._members.get(worker)
        if member is None:  # died this instant, and the driver is about to hear of it
            return
        self._spawn(self._serve, member, order)

    def drop(self, worker: str, shard: Shard) -> None:
        member = self._members.get(worker)
        if member is not None and member.worker is not None:
            member.worker.drop(shard.index)

    def poll(self, timeout: float) -> Iterator[Event]:
        waiting = []
        try:
            waiting.append(self._events.get(timeout=0.01 if self._late else timeout))
            while True:
                waiting.append(self._events.get_nowait())
        except Empty:
            pass
        if not waiting:
            waiting, self._late = self._late, []
        for event, taken in waiting:
            worker = event.worker
            if isinstance(event, Died) or worker in self._members:
                yield event
            taken.set()

    def show(self, status: Mapping[str, object], waiting: int) -> None: ...

    def stop(self) -> None:
        for member in self._members.values():
            if member.worker is not None:
                member.worker.stop()

    def end(self, worker: str) -> None:
        member = self._members.pop(worker)
        member.gone.set()
        if member.worker is not None:
            self.spent.update(member.worker.lap())

    def thaw(self) -> None:
        """Frozen workers go on, and finish what they had begun."""
        self._thawed.set()

    def close(self) -> None:
        for worker in list(self._members):
            self.end(worker)
        for thread, member in self._threads.items():
            if self._thawed.is_set() or not member.frozen:
                thread.join()

    def _spawn(self, target: Callable[..., None], member: _Member, argument: object) -> None:
        thread = threading.Thread(target=target, args=(member, argument), daemon=True)
        self._threads = {thread: member, **{other: whose for other, whose in self._threads.items() if other.is_alive()}}
        thread.start()

    def _load(self, member: _Member, recipe: LaneRecipe) -> None:
        try:
            member.worker = Worker(recipe, member.name)
        except LightmillError as error:
            self._events.put((Broke(member.name, None, error), threading.Event()))
            return
        self._events.put((Ready(member.name, member.worker.ready()), threading.Event()))

    def _serve(self, member: _Member, order: ShardOrder) -> None:
        assert member.worker is not None
        try:
            for _ in range(self._runs):
                for item in member.worker.run(order):
                    if not self._hand_over(member, order.shard, item):
                        return
        except LightmillError as error:
            self._events.put((Broke(member.name, order.shard, error), threading.Event()))

    def _hand_over(self, member: _Member, shard: Shard, item: Beat | ShardReport) -> bool:
        """Whether the worker lives to go on."""
        if member.gone.is_set():
            return member.frozen
        fate = self._fate(member.name, shard, item)
        if fate in ("kill", "freeze"):
            member.frozen = fate == "freeze"
            self._lose(member)
            if member.frozen:
                self._thawed.wait()
            return member.frozen
        event = Made(member.name, item) if isinstance(item, ShardReport) else Beaten(member.name, shard, item)
        taken = threading.Event()
        if fate == "delay":
            self._late.append((event, taken))
        else:
            self._events.put((event, taken))
        while not taken.wait(0.05):
            if member.gone.is_set():
                return member.frozen
        if fate == "kill after":
            self._lose(member)
        return fate != "kill after"

    def _lose(self, member: _Member) -> None:
        member.gone.set()
        if self._members.pop(member.name, None):
            self._events.put((Died(member.name, "killed by the test"), threading.Event()))
