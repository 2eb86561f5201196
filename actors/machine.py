"""Machine: what this one has, as it can be seen without loading any library that would take hold of it."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

NVIDIA_SMI = ("nvidia-smi", "--query-gpu=name,memory.total,memory.free,driver_version", "--format=csv,noheader,nounits")
GPU_SECONDS = 20
"""For NVIDIA's tool to answer: on a sick GPU it may hang."""
MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Gpu:
    """One of the machine's."""

    name: str
    bytes: int
    bytes_free: int
    driver: str


def gpus() -> list[Gpu]:
    """As NVIDIA's own tool lists them."""
    if not shutil.which(NVIDIA_SMI[0]):
        return []
    try:
        said = subprocess.run(NVIDIA_SMI, capture_output=True, text=True, check=True, timeout=GPU_SECONDS).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[word.strip() for word in line.rsplit(",", 3)] for line in said.splitlines()]
    return [
        Gpu(name, int(total) * MEBIBYTE, int(free) * MEBIBYTE, driver)
        for name, total, free, driver in (row for row in rows if len(row) == 4)
        if total.isdigit() and free.isdigit()
    ]


def has_driver() -> bool:
    """Whether NVIDIA's driver is there, well or not: in a container, too, it is what GPUs are asked by."""
    return Path("/dev/nvidiactl").exists()


def processors() -> int:
    """How many of its cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def version(library: str) -> str | None:
    """Of what is installed here."""
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def weights_folder() -> Path:
    """Where the hub's library keeps the weights of models; it need not exist yet."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("HF_HOME") or cache / "huggingface")


def disk_free(folder: Path) -> int:
    """Bytes on the disk on which a folder is, or will be."""
    return shutil.disk_usage(folder).free if folder.exists() else disk_free(folder.parent)
