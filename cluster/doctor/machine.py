"""This machine: what is installed, and whether there is room for a run."""

import os
import platform
import re
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from actors import machine
from actors.errors import Problem
from cluster.doctor.findings import Fact, Finding
from cluster.words import count, size

SHOWN = ("lightmill", "ray", "torch", "diffusers", "transformers", "boto3", "pyarrow")
FOR_WORKERS = "pip install 'lightmill[worker]'"
SMALLEST_MEMORY = 4e9
"""Bytes. Ray and the driver take one, and a worker with the weights of Stable Diffusion in 16 bits three."""
SMALLEST_DISK = 10e9
"""Bytes. Weights of one model with what they are unpacked to, and Ray's logs."""
SHARED_MEMORY = 128 * 1024**2
"""Bytes that a run's object store wants. Docker gives 64 MiB; Ray then goes to the disk, and says so in a log alone."""


def examine() -> Iterator[Finding]:
    """Everything that can be seen without Ray and without torch, in a second."""
    yield Fact("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    yield from _libraries()
    yield from _gpus()
    yield from _room("memory", _free_memory(), SMALLEST_MEMORY, "LM1844", "end what else runs here")
    for name, place in (("temporary files", Path(tempfile.gettempdir())), ("models", machine.weights_folder())):
        free = machine.disk_free(place)
        yield from _room(f"disk of {name}", free, SMALLEST_DISK, "LM1845", f"make room on the disk of {place}")
    if (shared := Path("/dev/shm")).is_dir():  # noqa: S108 - where Linux has it
        free = machine.disk_free(shared)
        action = "start the container with --shm-size=1g"
        yield from _room("shared memory", free, SHARED_MEMORY, "LM1846", action)


def _libraries() -> Iterator[Finding]:
    absent = []
    for requirement in map(Requirement, metadata.requires("lightmill") or ()):
        of_workers = requirement.marker is not None
        if requirement.marker and not requirement.marker.evaluate({"extra": "worker"}):
            continue
        found = machine.version(requirement.name)
        if found is None:
            absent.append(requirement.name)
        elif not requirement.specifier.contains(found, prereleases=True):
            action = f"pip install '{requirement.name}{requirement.specifier}'"
            wanted = f"{requirement.name} {found} is not one that lightmill works with"
            yield Problem("LM1842", wanted, value=f"needed: {requirement.specifier}", help=action)
        if found is None and not of_workers:
            yield Problem("LM1842", f"{requirement.name} is not installed", help=f"pip install '{requirement}'")
    for name in SHOWN:
        if (found := machine.version(name)) is not None:
            yield Fact(name, found)
    if absent:
        what = "this machine can submit jobs, and make no images itself: not installed are " + ", ".join(absent)
        yield Problem("LM1841", what, help=FOR_WORKERS, severity="note")


def _gpus() -> Iterator[Finding]:
    gpus = machine.gpus()
    if not gpus:
        yield Fact("GPU", "none")
        return
    for gpu in gpus:
        yield Fact("GPU", f"{gpu.name}, {size(gpu.bytes_free)} of {size(gpu.bytes)} free, driver {gpu.driver}")
    torch = machine.version("torch")
    if torch and "+cpu" in torch:
        what = f"torch {torch} is built for CPUs alone: {count(len(gpus), 'GPU')} would stand idle"
        yield Problem("LM1843", what, help="pip install --force-reinstall torch, from the index for your CUDA")


def _room(what: str, free: float, needed: float, code: str, action: str) -> Iterator[Finding]:
    yield Fact(what, f"{size(free)} free")
    if free < needed:
        lacking = f"{what}: {size(free)} free, {size(needed)} are needed for a small model"
        yield Problem(code, lacking, help=action, severity="warning")


def _free_memory() -> float:
    """Of the machine, or of the container that this is in, whichever is less."""
    about = Path("/proc/meminfo")
    found = re.search(r"^MemAvailable:\s+(\d+) kB", about.read_text(), re.MULTILINE) if about.exists() else None
    whole = int(found[1]) * 1024 if found else os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    group = Path("/sys/fs/cgroup")
    try:
        most, used = ((group / name).read_text().strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return whole
    return whole if most == "max" else min(whole, int(most) - int(used))
