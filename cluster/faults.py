"""Faults of a job's fields, at the place where whoever wrote them has to look: the line, the variable, the flag."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import ValidationError

from actors.errors import Problem
from actors.faults import Document, Loc, line
from jobs.spec import JobSpec

FLAGS = {("encoding", "format"): "--image-format", ("overrides",): "--override", ("columns",): "--column"}
"""Flags that are not called as their fields are."""
JOB = Document("the job", JobSpec, unknown_key="LM1101", wrong_value="LM1102")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the values of a job came from."""

    path: str | None
    root: yaml.Node | None
    environment: Mapping[str, Any]
    flags: Mapping[str, Any]

    def place(self, loc: Loc) -> str:
        """What a person has to change: flags hide the environment, which hides the file."""
        parts = tuple(part for part in loc if isinstance(part, str))
        if parts[:1] == ("models",) and parts[1:2] and parts[1] in self.flags:
            return f"--{parts[1]}".replace("_", "-")
        if _reaches(self.flags, parts):
            return FLAGS.get(parts) or FLAGS.get(parts[:1]) or f"--{parts[0]}".replace("_", "-")
        if _reaches(self.environment, parts):
            return f"LIGHTMILL_{'__'.join(parts).upper()} in the environment"
        return f"{self.path}{line(self.root, loc)}" if self.path else "the command line"


def problems(error: ValidationError, origin: Origin) -> Iterator[Problem]:
    """One problem for each fault, in the order in which the fields stand in the job."""
    return JOB.problems(error, origin.place)


def strays(variables: Iterable[str], prefix: str, environment: Mapping[str, Any]) -> Iterator[Problem]:
    """One problem for each variable with our prefix that has set nothing in `environment`."""
    known = [f"{prefix}{name.upper()}" for name in JobSpec.model_fields]
    for variable in variables:
        path = variable[len(prefix) :].lower().split("__")
        if not _reaches(environment, tuple(path)):
            close = difflib.get_close_matches(variable.upper(), known, n=1)
            action = f"did you mean {close[0]}?" if close else f"unset it; known here: {', '.join(known)}"
            yield Problem(
                "LM1101", f'unknown key "{".".join(path)}"', where=f"{variable} in the environment", help=action
            )


def _reaches(values: Any, parts: Loc) -> bool:  # noqa: ANN401
    """Whether the value at this place, or one that encloses it, was given here."""
    for part in parts:
        if not isinstance(values, Mapping):
            return True
        if part not in values:
            return False
        values = values[part]
    return bool(parts)
