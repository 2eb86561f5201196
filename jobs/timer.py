"""Timer: the seconds of this machine by which a driver judges its own lease."""

import time

CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Linux has one of its own that goes on while the machine is suspended; the other one of macOS does."""


class Timer:
    """A clock that goes on while the machine is suspended, and the patience to wait by it."""

    def now(self) -> float:
        """Seconds since boot."""
        return time.clock_gettime(CLOCK)

    def sleep(self, seconds: float) -> None:
        """Do nothing for a while."""
        time.sleep(seconds)
