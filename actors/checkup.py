"""Checkup: what a machine has to offer a job, and whether it reaches the job's store: facts, for others to judge."""

import os
import platform
import shutil
import socket
import subprocess
import sys
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from actors.errors import LightmillError, NotFound, Problem
from actors.settings import StorageSettings
from actors.storage.opening import FIRST_MEETING_SECONDS, open_bucket

LIBRARIES = ("ray", "torch", "diffusers", "transformers")
TRACES = "leases/probe-checkup-"
"""Where what is written to find out whether one may write lies; whoever asked for the checkup removes it."""
GPU_FIELDS = "name,memory.total"
GPU_SECONDS = 20
MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Gpu:
    """One of the machine's."""

    name: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Checkup:
    """Of one machine."""

    host: str
    python: str
    versions: dict[str, str]
    """Of what is installed, library by library."""
    gpus: tuple[Gpu, ...]
    disk_free: int
    """Bytes, where weights are kept."""
    clock_ahead: float | None
    """Seconds before the store's clock, which counts whole ones; None where the store does not answer."""
    problems: tuple[Problem, ...]
    """With the store."""


def check_up(output: str, storage: StorageSettings, beacon: str) -> Checkup:
    """Look around. `beacon` is the key of an object that whoever asks has just written to the output."""
    ahead, problems = _meet(output, storage, beacon)
    return Checkup(
        host=socket.gethostname(),
        python=platform.python_version(),
        versions=_versions(),
        gpus=tuple(_gpus()),
        disk_free=_disk_free(),
        clock_ahead=ahead,
        problems=problems,
    )


def _meet(output: str, storage: StorageSettings, beacon: str) -> tuple[float | None, tuple[Problem, ...]]:
    """Read and write as a worker does, with the credentials of this machine."""
    ahead = None
    try:
        bucket = open_bucket(output, storage, patience_seconds=FIRST_MEETING_SECONDS)
        try:
            bucket.get(beacon)
        except NotFound:
            message = f"{output} is another store here than where the job is submitted from"
            return None, (Problem("LM1511", message, help="name the store in the job: storage.endpoint_url"),)
        ahead = (datetime.now(UTC) - bucket.now()).total_seconds()
        bucket.put(f"{TRACES}{uuid.uuid4().hex}", b"")
    except LightmillError as error:
        return ahead, error.problems
    return ahead, ()


def _versions() -> dict[str, str]:
    found = {}
    for library in LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return found


def _gpus() -> list[Gpu]:
    """As NVIDIA's own tool lists them: no library is loaded, and no memory of theirs is taken for it."""
    if sys.platform != "linux" or not shutil.which("nvidia-smi"):
        return []
    command = ["nvidia-smi", f"--query-gpu={GPU_FIELDS}", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=GPU_SECONDS).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    lines = [line.rpartition(",") for line in said.splitlines() if line.strip()]
    return [Gpu(name.strip(), int(float(memory)) * MEBIBYTE) for name, _, memory in lines]


def _disk_free() -> int:
    folder = Path(os.environ.get("HF_HOME") or Path.home() / ".cache")
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
