"""Nodes: the machines as the driver knows them: who works where, and which machine fails again and again."""

from collections.abc import Callable

from jobs.dispatch import STRIKES
from jobs.seat import Node, Seat

LEFT_OUT = STRIKES + 2
"""Failures of one machine in a row, after which it gets no worker any more: with one less, an image that kills its
workers may have been to blame, which does so once more where its prompt is encoded ahead of it."""
SAME_SECONDS = 0.5
"""Failures of one machine within these are one: it may have had several workers when it vanished. To start one takes a
second."""


class Nodes:
    """Machines appear when a worker gets its place on them."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._nodes: dict[str, Node] = {}
        self.left_out: dict[str, Node] = {}

    def find(self, node: str, address: str = "") -> Node:
        """The machine of this id."""
        return self._nodes.setdefault(node, Node(node, address))

    def knows(self, node: str) -> bool:
        """Whether any worker was there before."""
        return node in self._nodes

    def loaded(self, seat: Seat) -> None:
        """A worker has loaded its model."""
        if seat.node:
            seat.node.has_worked = True

    @property
    def in_use(self) -> int:
        """How many have been tried and are not left out."""
        return len(self._nodes) - len(self.left_out)

    def made(self, seat: Seat) -> None:
        """A worker has made a shard."""
        if seat.node:
            seat.node.failures = 0

    def failed(self, seat: Seat) -> bool:
        """A worker is no more, and its machine may be why: whether that is to be left out from now on. There must be
        another one that works."""
        node, now = seat.node, self._now()
        if node is None or now - node.failed < SAME_SECONDS:
            return False
        node.failed = now
        node.failures += 1
        others = any(other.has_worked and not other.is_leaving for other in self._nodes.values() if other is not node)
        if node.failures < LEFT_OUT or not others or node.id in self.left_out:
            return False
        self.left_out[node.id] = node
        return True
