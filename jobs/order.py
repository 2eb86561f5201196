"""RunOrder: what whoever starts a driver tells it, as the one argument of `python -m jobs`."""

from typing import Literal

from actors.settings import Settings
from jobs.spec import JobSpec

CheckMode = Literal["auto", "all", "sample", "none"]


class RunOrder(Settings):
    """A run of a job, or a retry of what failed in an output. Holds no secrets: a command line can be seen by all."""

    purpose: Literal["run", "retry"] = "run"
    spec: JobSpec
    """Of a retry: as the manifest has it."""
    address: str | None = None
    """Of a running Ray cluster; None: a Ray of our own on this machine, for this run."""
    check: CheckMode = "auto"
    """How many rows are checked before anything is generated."""
    only: str = "failed"
    """Of a retry: `failed`, or the error code of the rows to make again."""
    debug: bool = False
    """Whether errors come with tracebacks, on standard error."""
    commit: str | None = None
    """Of the code, which a shipped copy of it does not know."""
