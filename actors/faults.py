"""Faults of a document that a person wrote: what pydantic has against it, in that person's words and at their lines."""

import difflib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from actors.errors import Problem

Loc = tuple[int | str, ...]
SUBJECT = re.compile(r"^(?:Input|String|Tuple|List|Dictionary|Value) (?:should|must) (be )?")
IN_A_URL = re.compile(r"://[^/@\s]*@")
"""Who asks, and a password."""
SHOWN = 80


@dataclass(frozen=True, slots=True)
class Document:
    """A kind of document: what it is called, what it may hold, and the codes of its problems."""

    name: str
    """`the job`, `the card`."""
    model: type[BaseModel]
    unknown_key: str
    """Code of a key that it does not know."""
    wrong_value: str
    """Code of a value that it cannot have, or lacks."""

    def problems(self, error: ValidationError, place: Callable[[Loc], str]) -> Iterator[Problem]:
        """One problem for each fault, in the order in which the fields stand; `place` says where each was set."""
        details = error.errors()
        for detail in details:
            within = [other for other in details if len(other["loc"]) > len(detail["loc"])]
            follows = any(other["loc"][: len(detail["loc"])] == detail["loc"] for other in within)
            if not follows:  # a tuple is also too short where its one entry is at fault
                yield self._problem(detail, place(detail["loc"]))

    def _problem(self, detail: ErrorDetails, where: str) -> Problem:
        loc = detail["loc"]
        name = _name(loc)
        if detail["type"] == "extra_forbidden":
            known = self._fields(loc[:-1])
            close = difflib.get_close_matches(str(loc[-1]), known, n=1)
            action = f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"
            return Problem(self.unknown_key, f'unknown key "{name}"', where=where, help=action)
        if detail["type"] == "missing":
            return Problem(self.wrong_value, f"{name} is missing", where=where, help=f"add {loc[-1]}")
        value, action = _shown(detail), _misread(detail) or self._action(loc)
        return Problem(self.wrong_value, self._message(name, detail), where=where, value=value, help=action)

    def _message(self, name: str, detail: ErrorDetails) -> str:
        """pydantic's `Input should be a valid integer, unable to ...` becomes `seed must be a valid integer`."""
        said = detail["msg"]
        if detail["type"] == "value_error":
            said = said.removeprefix("Value error, ")
            return f"{name} must be {said}" if name else f"{self.name} needs {said}"
        if detail["type"] == "string_pattern_mismatch":
            return f"{name} must match {detail['ctx']['pattern']}"
        if detail["type"] in ("model_type", "dict_type"):
            return f"{name} must be a map"
        rest = SUBJECT.sub(lambda match: "be " if match[1] else "", said).partition(", unable")[0]
        rest = rest.replace("be a valid tuple", "be a list")  # YAML has no tuples
        return f"{name} must {rest}"

    def _action(self, loc: Loc) -> str:
        return f"correct {loc[-1] if loc and isinstance(loc[-1], str) else _name(loc) or self.name}"

    def _fields(self, loc: Iterable[int | str]) -> list[str]:
        """The keys that may stand at this place of the document."""
        model = self.model
        for part in loc:
            if isinstance(part, int):
                continue
            model = _nested(model.model_fields[part].annotation) or model
        return sorted(model.model_fields)


def line(node: yaml.Node | None, loc: Loc) -> str:
    """`:14` for the line on which this field stands, as far as the path can be followed."""
    number = None
    for part in loc:
        found = _child(node, part)
        if found is None:
            break
        key, node = found
        number = key.start_mark.line + 1
    return f":{number}" if number else ""


def not_yaml(error: yaml.YAMLError, path: str) -> tuple[str, str]:
    """What is wrong with the text, and where."""
    mark = getattr(error, "problem_mark", None)
    where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else path
    return getattr(error, "problem", None) or str(error), where


def _misread(detail: ErrorDetails) -> str:
    """What is to be done about a word that YAML has taken for something else."""
    if detail["type"] not in ("string_type", "literal_error"):
        return ""
    if isinstance(detail["input"], bool):
        return "YAML reads a bare yes, no, on or off as true or false: write another word, or put it in quotes"
    return "put it in quotes" if isinstance(detail["input"], int | float | date) else ""


def _name(loc: Loc) -> str:
    """`models[0].width`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).removeprefix(".")


def _shown(detail: ErrorDetails) -> str:
    text = IN_A_URL.sub("://...@", repr(detail["input"]))
    return "" if not detail["loc"] else text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def _child(node: yaml.Node | None, part: int | str) -> tuple[yaml.Node, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        return next(((key, value) for key, value in node.value if key.value == str(part)), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    return None


def _nested(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) is None:
        return None
    return next((model for part in get_args(annotation) if (model := _nested(part))), None)
