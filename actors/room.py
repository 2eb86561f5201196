"""Room: a sum that threads share, so that together they hold no more than one of them might alone."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Room:
    """For so many units of whatever is counted."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._free = most
        self._changed = threading.Condition()

    @contextmanager
    def held(self, wanted: int) -> Iterator[None]:
        """Wait until there is room for so many, and have it. Who wants more than there is waits for all of it."""
        taken = min(wanted, self._most)
        with self._changed:
            self._changed.wait_for(lambda: taken <= self._free)
            self._free -= taken
        try:
            yield
        finally:
            with self._changed:
                self._free += taken
                self._changed.notify_all()
