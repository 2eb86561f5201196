"""Timer: the seconds of this machine by which a driver judges its own lease."""

import time

CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Goes on while the machine is suspended: on Linux a clock of its own, on macOS the monotonic one."""


class Timer:
    """A clock that goes on while the machine is suspended, and the patience to wait by it."""

    def now(self) -> float:
        """Seconds since boot."""
        return time.clock_gettime(CLOCK)

    def sleep(self, seconds: float) -> None:
        """Do nothing for a while."""
        time.sleep(seconds)
