"""Orders: what whoever starts a driver tells it, in a file or on its standard input: a command line can be seen by all,
and holds 128 KiB."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from actors.settings import Settings, StorageSettings
from jobs.spec import JobSpec

ON_LEASH = "-"
CheckMode = Literal["auto", "all", "sample", "none"]


class RunOrder(Settings):
    """A run of a job, or a retry of what failed in an output. Holds no secrets."""

    purpose: Literal["run", "retry"] = "run"
    spec: JobSpec
    """Of a retry: as the manifest has it."""
    address: str | None = None
    """Of a running Ray cluster; None: a Ray of our own on this machine, for this run."""
    submission: str | None = None
    """By which the cluster knows this run, where it was submitted to it together with its code."""
    check: CheckMode = "auto"
    """How many rows are checked before anything is generated."""
    only: str = "failed"
    """Of a retry: `failed`, or the error code of the rows to make again."""
    frozen: bool = False
    """Whether every revision must be a commit already."""
    debug: bool = False
    """Whether errors come with tracebacks, on standard error."""
    commit: str | None = None
    """Of the code, which a shipped copy of it does not know."""


class ReproduceOrder(Settings):
    """Images of an output to be made again, and compared. Needs no Ray: the model is in the driver's own process."""

    purpose: Literal["reproduce"] = "reproduce"
    output: str
    storage: StorageSettings
    id: str | None = None
    """Of a row, or the key of an image. None: all images."""
    image_index: int | None = None
    """None: all images of the row."""
    sample: int | None = None
    """Of all images, so many; None: every one."""
    save: str | None = None
    """The file for the new image, an absolute path."""
    debug: bool = False


class PreflightOrder(Settings):
    """A look at every machine of the cluster that the driver runs on."""

    purpose: Literal["preflight"] = "preflight"
    spec: JobSpec
    beacon: str
    """The key of an object in the output, which the machines have to find."""
    debug: bool = False


Order = RunOrder | ReproduceOrder | PreflightOrder
_ORDER: TypeAdapter[Order] = TypeAdapter(Annotated[Order, Field(discriminator="purpose")])


def read_order(place: str) -> Order:
    """The order, in JSON: in `@FILE`, or the first line of what is said on the leash."""
    return _ORDER.validate_json(sys.stdin.readline() if place == ON_LEASH else Path(place[1:]).read_bytes())
