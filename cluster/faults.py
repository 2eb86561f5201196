"""Faults of a job's fields, said in the words of whoever wrote them: the line of the file, the variable, the flag."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from actors.errors import Problem
from jobs.spec import JobSpec

Loc = tuple[int | str, ...]
FLAGS = {("encoding", "format"): "--image-format", ("overrides",): "--override", ("columns",): "--column"}
"""Flags that are not called as their fields are."""
SUBJECT = re.compile(r"^(?:Input|String|Tuple|List|Dictionary|Value) (?:should|must) (be )?")
SHOWN = 80


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
        return f"{self.path}{_line(self.root, loc)}" if self.path else "the command line"


def problems(error: ValidationError, origin: Origin) -> Iterator[Problem]:
    """One problem for each fault, in the order in which the fields stand in the job."""
    details = error.errors()
    for detail in details:
        within = [other for other in details if len(other["loc"]) > len(detail["loc"])]
        follows = any(other["loc"][: len(detail["loc"])] == detail["loc"] for other in within)
        if not follows:  # a tuple is also too short where its one entry is at fault
            yield _problem(detail, origin)


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


def _problem(detail: ErrorDetails, origin: Origin) -> Problem:
    loc = detail["loc"]
    name, where = _name(loc), origin.place(loc)
    if detail["type"] == "extra_forbidden":
        known = _fields(loc[:-1])
        close = difflib.get_close_matches(str(loc[-1]), known, n=1)
        action = f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"
        return Problem("LM1101", f'unknown key "{name}"', where=where, help=action)
    if detail["type"] == "missing":
        return Problem("LM1102", f"{name} is missing", where=where, help=f"add {loc[-1]}")
    return Problem("LM1102", _message(name, detail), where=where, value=_shown(detail), help=_action(loc))


def _message(name: str, detail: ErrorDetails) -> str:
    """pydantic's `Input should be a valid integer, unable to ...` becomes `seed must be a valid integer`."""
    said = detail["msg"]
    if detail["type"] == "value_error":
        said = said.removeprefix("Value error, ")
        return f"{name} must be {said}" if name else f"the job needs {said}"
    if detail["type"] == "string_pattern_mismatch":
        return f"{name} must match {detail['ctx']['pattern']}"
    if detail["type"] in ("model_type", "dict_type"):
        return f"{name} must be a map"
    rest = SUBJECT.sub(lambda match: "be " if match[1] else "", said).partition(", unable")[0]
    return f"{name} must {rest}"


def _shown(detail: ErrorDetails) -> str:
    text = repr(detail["input"])
    return "" if not detail["loc"] else text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def _action(loc: Loc) -> str:
    return f"correct {loc[-1] if loc and isinstance(loc[-1], str) else _name(loc) or 'the job'}"


def _name(loc: Loc) -> str:
    """`models[0].width`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).removeprefix(".")


def _reaches(values: Any, parts: Loc) -> bool:  # noqa: ANN401
    """Whether the value at this place, or one that encloses it, was given here."""
    for part in parts:
        if not isinstance(values, Mapping):
            return True
        if part not in values:
            return False
        values = values[part]
    return bool(parts)


def _line(node: yaml.Node | None, loc: Loc) -> str:
    """`:14` for the line on which this field stands, as far as the path can be followed."""
    line = None
    for part in loc:
        found = _child(node, part)
        if found is None:
            break
        key, node = found
        line = key.start_mark.line + 1
    return f":{line}" if line else ""


def _child(node: yaml.Node | None, part: int | str) -> tuple[yaml.Node, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        return next(((key, value) for key, value in node.value if key.value == str(part)), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    return None


def _fields(loc: Iterable[int | str]) -> list[str]:
    """The keys that may stand at this place of a job."""
    model: type[BaseModel] = JobSpec
    for part in loc:
        if isinstance(part, int):
            continue
        model = _nested(model.model_fields[part].annotation) or model
    return sorted(model.model_fields)


def _nested(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) is None:
        return None
    return next((model for part in get_args(annotation) if (model := _nested(part))), None)
