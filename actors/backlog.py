"""Backlog: how many bytes are between the model and the store, and who is waited for when there are too many."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Backlog:
    """A bounded number of bytes. Whoever adds more than fits is held back, and the time is counted by its cause."""

    def __init__(self, limit: int) -> None:
        self.seconds = {"encode_wait": 0.0, "upload_wait": 0.0}
        self.closed = False
        self._limit = limit
        self._held = 0
        self._storing = False
        self._changed = threading.Condition()
        self._waiting: list[Callable[[], bool]] = []
        """What each of those that are held back waits for."""
        self._counted = 0.0
        """Until when their waiting has been."""

    def fits(self, size: int) -> bool:
        """One that is larger than the limit fits when it is alone."""
        return self._held == 0 or self._held + size <= self._limit

    def take(self, size: int) -> None:
        """Count `size` bytes more, as soon as they fit."""
        with self._changed:
            self._hold_back(lambda: self.fits(size))
            self._held += size

    def give(self, size: int) -> None:
        """`size` bytes less: they are encoded, or stored."""
        with self._changed:
            self._held -= size
            # Not for nothing: whoever wakes up takes the core, and this interpreter, from an encoder.
            if any(until() for until in self._waiting):
                self._changed.notify_all()

    @contextmanager
    def storing(self) -> Iterator[None]:
        """While this lasts it is the store that is waited for, and otherwise the encoders."""
        self._set_storing(True)
        try:
            yield
        finally:
            self._set_storing(False)

    def close(self) -> None:
        """Nothing moves any more: nobody is held back."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()

    def wait_until_closed(self) -> None:
        with self._changed:
            self._hold_back(lambda: False)

    def _set_storing(self, storing: bool) -> None:
        with self._changed:
            self._count()
            self._storing = storing

    def _hold_back(self, until: Callable[[], bool]) -> None:
        if self.closed or until():
            return
        self._count()
        self._waiting.append(until)
        while not (self.closed or until()):
            self._changed.wait()
        self._count()
        self._waiting.remove(until)

    def _count(self) -> None:
        """What has been waited since the last time, by all together and for the cause there has been."""
        now = time.monotonic()
        self.seconds["upload_wait" if self._storing else "encode_wait"] += (now - self._counted) * len(self._waiting)
        self._counted = now
