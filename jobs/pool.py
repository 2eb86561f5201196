"""WorkerPool: shards onto workers, on Ray.

Each worker is an actor with room for two shards: one denoising, one uploading. A shard is a streaming generator with a
back-pressure of one item: Ray resumes it only once the driver has taken what it yielded. That makes every `Beat` an
acknowledged announcement (measured: without it the last one before a SIGKILL was lost in 1 of 3 cases; with it in none;
it costs 0.65 ms a beat, while the device is busy).
"""

import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import ray
from ray.exceptions import RayError, RayTaskError

from actors.errors import LightmillError, Problem, RunError
from actors.recipe import LaneRecipe
from actors.records import Shard, ShardOrder, ShardReport
from jobs.actor import hire
from jobs.drain import draining
from jobs.events import Beaten, Broke, Died, Event, Leaving, Made, Placed, Ready
from jobs.metrics import Metrics

PING_SECONDS = 10.0
LOOK_SECONDS = 2.0
"""How often is asked which machines are taken away: a spot machine has 30 s or more."""
LEAVE_SECONDS = 3.0
"""For workers to put the last lines of their logs; a frozen one does not answer."""


class WorkerPool(Protocol):
    """What the driver asks of whatever carries the workers."""

    spent: Counter[str]
    """Seconds, by cause, of the workers that were let go: those that came after their last reports."""

    def start(self, recipe: LaneRecipe, left_out: Collection[str]) -> str:
        """Ask for one more worker for this lane, on none of these machines; its name. It reports `Placed`, and then
        `Ready`, `Broke` or `Died`."""
        ...

    def assign(self, worker: str, order: ShardOrder) -> None:
        """Give the worker a shard."""
        ...

    def drop(self, worker: str, shard: Shard) -> None:
        """Let the worker make no more of a shard: nobody waits for what comes of it."""
        ...

    def poll(self, timeout: float) -> Iterator[Event]:
        """What happened since, waiting up to `timeout` seconds for something to happen."""
        ...

    def show(self, status: Mapping[str, Any], waiting: int) -> None:
        """Tell whoever watches the workers how the run goes: its status, and how many shards wait for a worker."""
        ...

    def stop(self) -> None:
        """Ask every worker to drop what it is generating, after the batch that runs."""
        ...

    def end(self, worker: str) -> None:
        """Let go of a worker that has nothing in hand. No `Died` follows."""
        ...

    def close(self) -> None:
        """End every worker."""
        ...


@dataclass(slots=True)
class _Member:
    name: str
    actor: Any
    placing: Any
    """The call that says where it is, until it is answered."""
    loading: Any
    """The call that loads the model, until it is answered."""
    streams: dict[Any, Shard] = field(default_factory=dict)
    ping: Any = None
    pinged: float = 0.0


class RayPool:
    """Workers as Ray actors, owned by the driver: when it dies, so do they."""

    def __init__(self, silence_seconds: float, metrics: Metrics | None) -> None:
        self.spent: Counter[str] = Counter()
        self._metrics = metrics
        self._silence_seconds = silence_seconds
        """A worker that does not answer a ping for so long is ended: its process is frozen, or its node is."""
        self._members: dict[str, _Member] = {}
        self._started = 0
        self._looked = 0.0
        self._leaving: dict[str, bool] = {}
        """The machines of which it has been said that they go, and whether also when."""

    def start(self, recipe: LaneRecipe, left_out: Collection[str]) -> str:
        name = f"{recipe.lane:02d}-{self._started:04d}"
        self._started += 1
        actor = hire(recipe, name, left_out)
        self._members[name] = _Member(name, actor, actor.where.remote(), actor.ready.remote())
        return name

    def assign(self, worker: str, order: ShardOrder) -> None:
        member = self._members[worker]
        run = member.actor.run.options(num_returns="streaming", _generator_backpressure_num_objects=1)
        member.streams[run.remote(order)] = order.shard

    def drop(self, worker: str, shard: Shard) -> None:
        self._members[worker].actor.drop.remote(shard.index)

    def poll(self, timeout: float) -> Iterator[Event]:
        yield from self._frozen()
        yield from self._taken_away()
        owners = {handle: member for member in self._members.values() for handle in _handles(member)}
        if not owners:
            time.sleep(timeout)
            return
        ready, _ = ray.wait(list(owners), num_returns=1, timeout=timeout, fetch_local=False)
        if ready and len(owners) > 1:
            ready, _ = ray.wait(list(owners), num_returns=len(owners), timeout=0, fetch_local=False)
        for handle in ready:
            member = owners[handle]
            if member.name in self._members:  # not ended by what an earlier event led to
                yield from self._take(member, handle)

    def show(self, status: Mapping[str, Any], waiting: int) -> None:
        if self._metrics:
            self._metrics.update(status, waiting)

    def stop(self) -> None:
        for member in self._members.values():
            if member.loading is None:
                member.actor.stop.remote()

    def end(self, worker: str) -> None:
        self._see_off([self._members[worker]])

    def close(self) -> None:
        self._see_off(list(self._members.values()))

    def _see_off(self, members: list[_Member]) -> None:
        """End them, once they have put the last lines of their logs."""
        leaving = [member.actor.leave.remote() for member in members if member.loading is None]
        left = ray.wait(leaving, num_returns=len(leaving), timeout=LEAVE_SECONDS)[0] if leaving else []
        for answer in left:
            with suppress(RayError):  # it is dead, or its model was never loaded
                self.spent.update(ray.get(answer))
        for member in members:
            self._kill(member)

    def _kill(self, member: _Member) -> None:
        del self._members[member.name]
        ray.kill(member.actor)

    def _frozen(self) -> Iterator[Event]:
        now = time.monotonic()
        for member in list(self._members.values()):
            if member.loading is not None or now - member.pinged < PING_SECONDS:
                continue
            if member.ping is None or ray.wait([member.ping], timeout=0, fetch_local=False)[0]:
                member.ping, member.pinged = member.actor.ping.remote(), now
            elif now - member.pinged > self._silence_seconds:
                self._kill(member)
                reason = f"gave no answer for {self._silence_seconds:.0f} s, so its process was ended"
                yield Died(member.name, reason)

    def _taken_away(self) -> Iterator[Event]:
        """Machines of which that is new, or the time of it."""
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        for node, seconds in draining().items():
            if self._leaving.get(node, False) is False:
                self._leaving[node] = seconds is not None
                yield Leaving(node, seconds)

    def _take(self, member: _Member, handle: Any) -> Iterator[Event]:  # noqa: ANN401
        shard = member.streams.get(handle)
        try:
            if handle is member.placing:
                member.placing = None
                yield Placed(member.name, *ray.get(handle))
            elif shard is None:
                member.loading = None
                yield Ready(member.name, ray.get(handle))
            else:
                yield from self._take_item(member, handle, shard)
        except RayTaskError as error:  # which `Worker` itself raised; it lives on
            member.streams.pop(handle, None)
            yield Broke(member.name, shard, _as_ours(error))
        except RayError as error:  # it was killed, for want of memory or with its machine, or what it made is lost
            self._kill(member)
            yield Died(member.name, _first_line(error))

    def _take_item(self, member: _Member, handle: Any, shard: Shard) -> Iterator[Event]:  # noqa: ANN401
        try:
            item = ray.get(next(handle))
        except StopIteration:
            del member.streams[handle]
            return
        if isinstance(item, ShardReport):
            yield Made(member.name, item)
        else:
            yield Beaten(member.name, shard, item)


def _handles(member: _Member) -> list[Any]:
    return [*(call for call in (member.placing, member.loading) if call is not None), *member.streams]


def _as_ours(error: RayTaskError) -> LightmillError:
    cause = error.cause
    if isinstance(cause, LightmillError):
        return cause
    problem = Problem("LM1608", f"the worker failed: {type(cause).__name__}", value=_first_line(cause))
    return RunError(problem)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:500]
