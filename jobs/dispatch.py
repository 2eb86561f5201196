"""Dispatch: which shard goes out next, and what is known of those that came back broken."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from actors.errors import LightmillError, Problem, RunError, StorageError
from actors.records import Shard, ShardOrder
from jobs.catalog import Catalog
from jobs.plan import Plan
from jobs.queue import Queue
from jobs.retry import Rework

STRIKES = 3
"""Deaths of a worker with the same image on its device, after which the image is a failed row."""
UNEXPLAINED = 3
"""Deaths that no image explains count a third of an attempt each: most are a machine's that was taken away."""


@dataclass(slots=True)
class Trouble:
    """What went wrong with one shard so far."""

    attempts: int = 0
    """Of workers that could not do it, and said so."""
    deaths: int = 0
    """Of workers that had it, with no image to blame."""
    strikes: Counter[str] = field(default_factory=Counter)


class Dispatch:
    """Hands out each shard that is not committed once, and again when it comes back unmade. One that is made of the
    images of another goes out when that is committed, and not before."""

    def __init__(
        self, plan: Plan, catalog: Catalog, max_attempts: int, rework: Mapping[int, Rework] | None = None
    ) -> None:
        self._plan = plan
        self._max_attempts = max_attempts
        self._rework = rework
        self._queues = [Queue(plan, catalog, lane) for lane in range(len(plan.lane_rows))]
        self._trouble: dict[int, Trouble] = {}
        self._twice: set[int] = set()
        """Shards that two workers have in hand: each may come back once without being lost."""

    def waiting(self, lane: int) -> int:
        """How many shards of this lane could be made now, and are in nobody's hand."""
        return self._queues[lane].size

    def is_handed_out(self, lane: int) -> bool:
        """Whether every shard of this lane is committed or in somebody's hand."""
        queue = self._queues[lane]
        return not queue.size and not queue.closed

    def images(self, index: int) -> int:
        """How many images are to be made of this shard."""
        return self._plan.shard_images(index) if self._rework is None else len(self._rework[index].keys)

    def next(self, lane: int) -> ShardOrder | None:
        """The next shard of this lane to be made, or None while there is none: one may still come."""
        index = self._queues[lane].take()
        return None if index is None else self._order(self._plan.shard(index))

    def may_be_twice(self, index: int) -> bool:
        """Whether a shard that one worker has in hand may go to a second one: it has done no harm so far."""
        return index not in self._twice and index not in self._trouble

    def again(self, index: int) -> ShardOrder:
        """A copy for a second worker of a shard that one has in hand."""
        self._twice.add(index)
        return self._order(self._plan.shard(index))

    def is_twice(self, index: int) -> bool:
        """Whether two workers have this shard in hand."""
        return index in self._twice

    def made(self, index: int) -> None:
        """The shard is committed, and the catalog knows: its troubles are over, and what is made of it may be made."""
        self._trouble.pop(index, None)
        children = self._plan.children(index)
        if children is not None:
            self._queues[self._plan.shard(children).lane].open(children)

    def give_back(self, shard: Shard) -> None:
        """The shard was not begun, or was dropped on purpose: no fault of its own."""
        if not self._is_elsewhere(shard):
            self._queues[shard.lane].put_first(shard.index)

    def struck(self, shard: Shard, announced: Iterable[str]) -> None:
        """A worker died or hung while it had the shard, with these images on its device or about to be.

        They run alone next time. A death that no image explains counts against the shard itself, though it takes more
        of them: machines come and go. Raises `RunError` when it goes on after the verdict, with which nothing is
        generated any more.
        """
        trouble = self._trouble.setdefault(shard.index, Trouble())
        keys = list(announced)
        trouble.strikes.update(keys)
        if not keys:
            trouble.deaths += 1
        if trouble.deaths >= 2 * UNEXPLAINED * self._max_attempts:
            raise RunError(_deadly(shard, trouble.deaths))
        if not self._is_elsewhere(shard):
            self._queues[shard.lane].put(shard.index)

    def broke(self, shard: Shard, error: LightmillError) -> None:
        """A worker could not do the shard, and said so. After `max_attempts` its images are failed rows.

        Raises the error where that would not help: the store does not take the shard, or not even those rows can be
        made.
        """
        trouble = self._trouble.setdefault(shard.index, Trouble())
        trouble.attempts += 1
        most = self._max_attempts - isinstance(error, StorageError)
        if trouble.attempts > most:
            raise error
        if not self._is_elsewhere(shard):
            self._queues[shard.lane].put(shard.index)

    def _is_elsewhere(self, shard: Shard) -> bool:
        """Whether a shard that comes back from one worker is in the hand of another. From now on it is not twice."""
        twice = shard.index in self._twice
        self._twice.discard(shard.index)
        return twice

    def _order(self, shard: Shard) -> ShardOrder:
        only = self._rework[shard.index].keys if self._rework is not None else None
        before = self._plan.parents(shard.index)
        parents = None if before is None else self._plan.shard(before)
        trouble = self._trouble.get(shard.index)
        if trouble is None:
            return ShardOrder(shard=shard, only=only, parents=parents)
        condemned = {key: _killer(deaths) for key, deaths in trouble.strikes.items() if deaths >= STRIKES}
        return ShardOrder(
            shard=shard,
            alone=frozenset(trouble.strikes) - condemned.keys(),
            condemned=condemned,
            verdict=self._verdict(trouble),
            only=only,
            parents=parents,
        )

    def _verdict(self, trouble: Trouble) -> Problem | None:
        if trouble.attempts >= self._max_attempts or trouble.deaths >= UNEXPLAINED * self._max_attempts:
            return _given_up(trouble.attempts + trouble.deaths)
        return None


def suspects_of(announced: Mapping[int, tuple[str, ...] | None]) -> set[int]:
    """The shards of a dead worker that may have killed it: those with images on the device; if there are none, those
    that had begun; if there are none either, all."""
    on_device = {index for index, keys in announced.items() if keys}
    begun = {index for index, keys in announced.items() if keys is not None}
    return on_device or begun or set(announced)


def _killer(deaths: int) -> Problem:
    return Problem(
        "LM1606",
        f"the worker's process died {deaths} times with this image on its device",
        help="look for the cause in logs/, then `lightmill retry` makes this image again",
    )


def _given_up(attempts: int) -> Problem:
    return Problem(
        "LM1607",
        f"the shard was tried {attempts} times, and each time its worker failed or died with no image to blame",
        help="look for the cause in logs/, then `lightmill retry` makes these images again",
    )


def _deadly(shard: Shard, attempts: int) -> Problem:
    return Problem(
        "LM1612",
        f"shard {shard.index} has ended {attempts} workers, also when they were to generate nothing",
        value=f"rows {shard.start} to {shard.stop - 1} of lane {shard.lane}",
        help="see logs/ and the memory of the machine; can these rows be read at all?",
    )
