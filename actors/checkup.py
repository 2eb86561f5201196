"""Checkup: what a machine has to offer a job, and whether it reaches the job's store: facts, for others to judge."""

import platform
import socket
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

from actors import machine
from actors.errors import LightmillError, NotFound, Problem
from actors.settings import StorageSettings
from actors.storage.opening import FIRST_MEETING_SECONDS, open_bucket

LIBRARIES = ("ray", "torch", "diffusers", "transformers")
TRACES = "leases/probe-checkup-"
"""Where what is written to find out whether one may write lies; whoever asked for the checkup removes it."""


@dataclass(frozen=True, slots=True)
class Checkup:
    """Of one machine."""

    host: str
    python: str
    versions: dict[str, str]
    """Of what is installed, library by library."""
    gpus: tuple[machine.Gpu, ...]
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
        versions={name: found for name in LIBRARIES if (found := machine.version(name))},
        gpus=tuple(machine.gpus()),
        disk_free=machine.disk_free(machine.weights_folder()),
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
