"""Queue: the shards of one lane that may be made now, in their order, each handed out once."""

from collections import deque

from jobs.catalog import Catalog
from jobs.plan import Plan


class Queue:
    """Shards are found lazily, and only those that come back, or out of turn, are remembered: memory does not grow with
    the job."""

    def __init__(self, plan: Plan, catalog: Catalog, lane: int) -> None:
        self._plan = plan
        self._catalog = catalog
        shards = plan.lane_shards(lane)
        self._next = shards.start
        self._returned: deque[int] = deque()
        self.size = sum(1 for index in catalog.pending(shards) if self._has_parents(index))
        """How many shards may be made now that nobody has in hand."""
        self.closed = sum(1 for _ in catalog.pending(shards)) - self.size
        """How many shards wait for that of which they are made."""

    def take(self) -> int | None:
        """The next shard to be made, or None while there is none: one may still come."""
        if not self.size:
            return None
        self.size -= 1
        if self._returned:
            return self._returned.popleft()
        while self._next in self._catalog or not self._has_parents(self._next):
            self._next += 1
        self._next += 1
        return self._next - 1

    def put_first(self, index: int) -> None:
        """A shard is back, and is next."""
        self.size += 1
        self._returned.appendleft(index)

    def put(self, index: int) -> None:
        """A shard is back."""
        self.size += 1
        self._returned.append(index)

    def open(self, index: int) -> None:
        """The parents of a shard are committed, this instant. What was passed over for them is next but for others."""
        if index in self._catalog:
            return
        self.closed -= 1
        self.size += 1
        if index < self._next:
            self._returned.append(index)

    def _has_parents(self, index: int) -> bool:
        parents = self._plan.parents(index)
        return parents is None or parents in self._catalog
