"""Timer: the seconds of this machine by which a driver judges its own lease."""

import time


class Timer:
    """A clock that goes on while the machine is suspended, and the patience to wait by it."""

    def now(self) -> float:
        """Seconds since boot."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def sleep(self, seconds: float) -> None:
        """Do nothing for a while."""
        time.sleep(seconds)
