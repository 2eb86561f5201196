"""Holder: which process drives an output, and whether it surely does so no longer."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Self

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""Linux alone has it. On other systems nobody looks for a process: its lease has to expire."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A process, named well enough that another one on its machine can tell whether it is alive."""

    host: str
    boot_id: str
    pid_namespace: str
    """Containers that share a host's name and boot do not share its process ids."""
    pid: int
    started: int | None
    """Clock ticks from boot to the start of the process: a pid alone may have been given to another one."""
    purpose: str

    @classmethod
    def here(cls, purpose: str) -> Self:
        """This process."""
        return cls(*_machine(), os.getpid(), _started(os.getpid()), purpose)

    @property
    def is_near(self) -> bool:
        """Whether it runs, or ran, where this process can look for it."""
        return self.boot_id != "" and (self.host, self.boot_id, self.pid_namespace) == _machine()

    @property
    def is_dead(self) -> bool:
        """True only if it surely is: it could be seen from here, and no longer runs."""
        if not self.is_near:
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # somebody else's; and `/proc` may hide it
            pass
        return self.started is not None and _started(self.pid) not in (None, self.started)

    def __str__(self) -> str:
        return f"`lightmill {self.purpose}`, process {self.pid} on {self.host}"


def _machine() -> tuple[str, str, str]:
    if not BOOT_ID.exists():
        return socket.gethostname(), "", ""
    return socket.gethostname(), BOOT_ID.read_text().strip(), str(Path("/proc/self/ns/pid").readlink())


def _started(pid: int) -> int | None:
    """When the process started (field 22 of proc(5)'s stat); -1 if it has ended, None if it cannot be seen."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    state, *fields = stat.rpartition(")")[2].split()
    return -1 if state == "Z" else int(fields[18])
