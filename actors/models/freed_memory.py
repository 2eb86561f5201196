"""Freed memory: kept by this process, as the next batch wants just as much."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of mallopt(3)."""
KEPT_BYTES = 1 << 30
LARGEST_BYTES = 32 << 20
"""What malloc takes for its largest; what is larger goes back at once."""


def keep_freed_memory() -> None:
    """Have malloc keep up to 1 GiB of what is freed at the end of each of its heaps, where it is glibc's.

    By default it gives tensors of some megabytes back to the system, and takes a page fault for every 4 KiB of the next
    ones: 450 an image of the demo's model in two steps, 6 % of its time on a CPU. At its highest, memory is up to a
    tenth more.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST_BYTES)  # which stays at 128 KiB once the other is set
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
