"""Named points at which a test makes the process die, to prove that dying there loses nothing.

``LIGHTMILL_CRASH=commit.put:2`` ends the process, without cleaning up, the second time that the point
``commit.put`` is passed; several are separated by commas. Unset, a point costs one dictionary look-up.
"""

import os
from collections import Counter

EXIT_STATUS = 137
"""What a shell reports for a process that was killed with SIGKILL."""

VARIABLE = "LIGHTMILL_CRASH"

_armed: dict[str, int] = {
    name: int(times or 1)
    for name, _, times in (entry.partition(":") for entry in os.environ.get(VARIABLE, "").split(",") if entry)
}
_passed: Counter[str] = Counter()


def point(name: str) -> None:
    """Die here if this is the point and the occurrence that ``LIGHTMILL_CRASH`` names."""
    if name not in _armed:
        return
    _passed[name] += 1
    if _passed[name] == _armed[name]:
        os._exit(EXIT_STATUS)
