"""Clock: where a worker's seconds go. Each second is counted once, so the causes add up to the time that has passed."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

CAUSES = ("load", "generate", "read", "announce", "encode_wait", "upload_wait", "other", "idle")
"""What a second can be spent on. Where several go on at once, the first of them is what it counts as: while the device
is busy, nothing is waited for.

========================  ========================================================================
`load`                    imports and weights, once
`generate`                the device is busy
`read`                    rows of the prompt table are being read
`announce`                the driver has not yet taken the word that a batch goes on the device
`encode_wait`             the encoders are behind
`upload_wait`             the store is behind
`other`                   a shard is being made, and none of the above: book-keeping
`idle`                    there is no shard to make
========================  ========================================================================
"""

_HELD = "held"
"""A writer holds back; it says afterwards whether encoders or store were the cause."""
_ORDER = (*CAUSES[:4], _HELD, *CAUSES[4:])


class Clock:
    """Counts from its making on. Any number of threads may say what they do."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._active: Counter[str] = Counter()
        self._seconds = dict.fromkeys(_ORDER, 0.0)
        self._since = now()

    @contextmanager
    def measure(self, cause: str) -> Iterator[None]:
        """While this lasts, `cause` is going on."""
        self._change(cause, 1)
        try:
            yield
        finally:
            self._change(cause, -1)

    @contextmanager
    def held_back(self, waits: Callable[[], Mapping[str, float]]) -> Iterator[None]:
        """While this lasts a writer may hold back. `waits` are its own counts of `encode_wait` and `upload_wait`, which
        tell how the time, as far as the device was idle in it, is divided."""
        before = dict(waits())
        try:
            with self.measure(_HELD):
                yield
        finally:
            self._divide_held({cause: seconds - before[cause] for cause, seconds in waits().items()})

    def lap(self) -> dict[str, float]:
        """Seconds by cause since the last lap. All laps together are the time since the clock was made."""
        with self._lock:
            self._accrue()
            lap = {cause: self._seconds[cause] for cause in CAUSES}
            lap["other"] += self._seconds[_HELD]
            self._seconds = dict.fromkeys(_ORDER, 0.0)
        return lap

    def _change(self, cause: str, by: int) -> None:
        with self._lock:
            self._accrue()
            self._active[cause] += by

    def _accrue(self) -> None:
        now = self._now()
        first = next((cause for cause in _ORDER if self._active[cause]), "idle")
        self._seconds[first] += now - self._since
        self._since = now

    def _divide_held(self, waits: Mapping[str, float]) -> None:
        with self._lock:
            held, total = self._seconds[_HELD], sum(waits.values())
            moved = min(held, total)
            for cause, seconds in waits.items():
                self._seconds[cause] += moved * seconds / total if total else 0.0
            self._seconds["other"] += held - moved
            self._seconds[_HELD] = 0.0
