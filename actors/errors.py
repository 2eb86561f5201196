"""What can go wrong, said so that a person can act on it.

Every problem has a code (``docs/errors.md`` explains each). The class of an error decides the exit status:

====================  ====  =====================================================
class                 exit  raised when
====================  ====  =====================================================
`RunError`            1     the run failed, its lease is held, `verify` found a fault
`UsageError`          2     flags contradict each other
`InputError`          3     the prompts, the job file or the model cannot be used
`TooManyFailures`     4     the job finished with more failed rows than allowed
`StorageError`        5     the store refused, or could not be reached
`ClusterError`        6     the cluster refused, or could not be reached
====================  ====  =====================================================
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: what, where, which value, and one action that mends it."""

    code: str
    message: str
    where: str = ""
    value: str = ""
    help: str = ""
    count: int = 1
    severity: Severity = "error"

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [f"{self.severity}[{self.code}]: {self.message}"]
        if self.where:
            lines.append(f"  --> {self.where}")
        if self.value:
            lines.append(f"  value: {self.value}")
        if self.help:
            lines.append(f"  help: {self.help}")
        return "\n".join(lines)


class LightmillError(Exception):
    """Base of every error lightmill raises on purpose; carries all problems of one phase.

    The arguments are positional and plain, because an exception with keyword-only arguments does not survive
    the pickling between a Ray worker and its driver.
    """

    exit_code = 1

    def __init__(self, *problems: Problem) -> None:
        super().__init__(*problems)

    @property
    def problems(self) -> tuple[Problem, ...]:
        return self.args

    @property
    def code(self) -> str:
        return self.problems[0].code

    def __str__(self) -> str:
        return render(self.problems)


class RunError(LightmillError):
    """The run failed; what was committed stays, and the same command resumes it."""


class UsageError(LightmillError):
    """Flags contradict each other."""

    exit_code = 2


class InputError(LightmillError):
    """The prompts, the job file or the model cannot be used as they are."""

    exit_code = 3


class TooManyFailures(LightmillError):
    """The job finished, with more failed rows than it allows."""

    exit_code = 4


class StorageError(LightmillError):
    """The store refused, or could not be reached."""

    exit_code = 5


class NotFound(StorageError):
    """There is no object under this key."""


class PreconditionFailed(StorageError):
    """A conditional write lost: the object exists already, or is no longer the one that was read.

    A *retried* write can report this although our own bytes are stored (the first reply was lost), so whoever
    catches it reads the object back and compares.
    """


class ClusterError(LightmillError):
    """The cluster refused, or could not be reached."""

    exit_code = 6


class Stopped(LightmillError):
    """The worker was asked to stop, and dropped the shard after the batch that ran."""


class OutOfMemory(LightmillError):
    """The device has no room for a batch of this size; a smaller one may fit."""


def as_ours(error: Exception) -> LightmillError:
    """The error itself, or what is said of one that nobody has foreseen."""
    return error if isinstance(error, LightmillError) else RunError(unexpected(error))


def unexpected(error: Exception) -> Problem:
    """Nobody has foreseen this, so it is a mistake of ours."""
    return Problem(
        "LM1999",
        f"lightmill itself failed: {type(error).__name__}: {error}",
        help="run the same command again with --debug to see where, and report that",
    )


def render(problems: Iterable[Problem], most: int = 20) -> str:
    """The problems as text: the first `most`, then how many more there are."""
    listed = list(problems)
    lines = [str(problem) for problem in listed[:most]]
    if len(listed) > most:
        lines.append(f"... and {len(listed) - most} more problems")
    return "\n".join(lines)
