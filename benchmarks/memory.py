"""Memory of a process, as Linux counts it: all that is resident, files that are mapped too."""

import os
from pathlib import Path


def peak_mib(pid: int) -> float:
    """Of one program: what `wait4` tells includes the process that started it."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


def resident_mib() -> float:
    """Of this process, now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
