"""Headcount: how many workers each lane may have: fewer than asked for, where one after the other fails to load."""

from collections import Counter

from actors.errors import Problem

FAILURES = 3
"""Of workers of a lane that load their model, in a row, for each machine that has been tried: after so many the job is
given up, or goes on without them where others have loaded it."""


class Headcount:
    """By lane: the most workers it may have, and how loading its model has gone."""

    def __init__(self, workers: tuple[int, ...]) -> None:
        """`workers`: how many each lane has been promised."""
        self._workers = workers
        self._most = list(workers)
        self._failures: Counter[int] = Counter()
        """In a row: since a worker has loaded the model, or since something was done about them."""
        self._failing: set[int] = set()
        """Lanes in which one has failed, and none has loaded the model since."""

    def most(self, lane: int) -> int:
        """How many workers it may have now."""
        return self._most[lane]

    def is_failing(self, lane: int) -> bool:
        """Whether the last that is known of loading its model is that it failed."""
        return lane in self._failing

    def loaded(self, lane: int) -> None:
        """A worker has loaded the model."""
        self._failures[lane] = 0
        self._failing.discard(lane)

    def failed(self, lane: int) -> None:
        """A worker came to its end before it had loaded the model."""
        self._failures[lane] += 1
        self._failing.add(lane)

    def is_hopeless(self, lane: int, machines: int) -> bool:
        """Whether that has happened too often, in a row, on as many machines."""
        return self._failures[lane] >= FAILURES * max(1, machines)

    def one_less(self, lane: int, ready: int) -> int:
        """Do with one worker less for the time being, but not with less than are ready: with how many."""
        self._failures[lane] = 0
        self._most[lane] = max(ready, self._most[lane] - 1)
        return self._most[lane]

    def excuse(self, lane: int) -> None:
        """The machine was to blame, and is left out."""
        self._failures[lane] = 0
        self.restore()

    def restore(self) -> None:
        """All that were promised may be asked for again: a machine has come that nobody has tried, or a bad one is
        left out."""
        self._most = list(self._workers)


def hopeless(model: str, reason: str) -> Problem:
    """What is said at the end of such a job."""
    return Problem(
        "LM1609",
        f"worker after worker died while it loaded {model}",
        value=reason,
        help="see logs/ and the memory of the machine",
    )
