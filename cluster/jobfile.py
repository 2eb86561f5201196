"""Job files: YAML, environment and flags become one validated JobSpec, or every problem at once."""

import difflib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, EnvSettingsSource

from actors.errors import InputError, Problem, UsageError
from actors.settings import ModelSettings
from jobs.spec import JobSpec

ENV_PREFIX = "LIGHTMILL_"
OF_A_MODEL = frozenset(ModelSettings.model_fields)
Loc = tuple[int | str, ...]


class _Environment(BaseSettings, JobSpec):  # type: ignore[misc] # their two model_config types differ
    """Only there to say how variables are named: `LIGHTMILL_SEED`, `LIGHTMILL_LIMITS__MAX_ATTEMPTS`."""


def load_job(path: Path | None, flags: Mapping[str, Any]) -> JobSpec:
    """The job that a file, the environment and the flags describe; flags win over environment over file.

    Flags that belong to a model apply to the job's only model. Relative paths of a file are relative to its folder,
    those of flags to the current one. Raises `InputError` with all problems, and `UsageError` for flags that
    contradict the file.
    """
    document, root = _read(path) if path else ({}, None)
    values = _deep_update(document, _environment(), _top_flags(flags))
    values = _with_model_flags(values, flags)
    if "models" not in values and path is None:
        raise UsageError(Problem("LM1103", "no model is named", help="add `--model tiny`, or name a job file"))
    try:
        return JobSpec.model_validate(values)
    except ValidationError as error:
        source = str(path) if path else "the command line"
        raise InputError(*(_problem(detail, root, source) for detail in error.errors())) from None


def _read(path: Path) -> tuple[dict[str, Any], yaml.Node | None]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(Problem("LM1104", f"the job file cannot be read: {error}", where=str(path))) from None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(Problem("LM1100", "the job file is not YAML", where=str(path), value=str(error))) from None
    if not isinstance(document, dict):
        raise InputError(Problem("LM1100", "the job file is not a mapping of fields", where=str(path)))
    folder = path.absolute().parent
    for field in ("prompts", "output"):
        document = _relative_to(folder, document, field)
    return document, root


def _relative_to(folder: Path, document: dict[str, Any], field: str) -> dict[str, Any]:
    value = document.get(field)
    if not isinstance(value, str) or "://" in value:
        return document
    return {**document, field: os.path.normpath(folder / Path(value).expanduser())}


def _environment() -> dict[str, Any]:
    source = EnvSettingsSource(_Environment, env_prefix=ENV_PREFIX, env_nested_delimiter="__")
    return dict(source())


def _top_flags(flags: Mapping[str, Any]) -> dict[str, Any]:
    top = {name: value for name, value in flags.items() if name not in OF_A_MODEL and value is not None}
    for field in ("prompts", "output"):
        top = _relative_to(Path.cwd(), top, field)
    return top


def _with_model_flags(values: dict[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in flags.items() if name in OF_A_MODEL and value is not None}
    if not given:
        return values
    models = values.get("models") or [{}]
    if len(models) > 1:
        name = "--" + next(iter(given)).replace("_", "-")
        raise UsageError(
            Problem(
                "LM1103",
                f"{name} does not say which of the job's {len(models)} models it is for",
                help="set it in the job file, under that model",
            )
        )
    return {**values, "models": [{**models[0], **given}]}


def _deep_update(*mappings: Mapping[str, Any]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for mapping in mappings:
        for name, value in mapping.items():
            both = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
            merged[name] = _deep_update(merged[name], value) if both else value
    return merged


def _problem(detail: ErrorDetails, root: yaml.Node | None, source: str) -> Problem:
    loc = detail["loc"]
    name = ".".join(str(part) for part in loc)
    where = f"{source}{_line(root, loc)}"
    if detail["type"] == "extra_forbidden":
        close = difflib.get_close_matches(str(loc[-1]), _fields(loc[:-1]), n=1)
        action = f"did you mean {close[0]}?" if close else f"known here: {', '.join(_fields(loc[:-1]))}"
        return Problem("LM1101", f'unknown key "{name}"', where=where, help=action)
    if detail["type"] == "missing":
        return Problem(
            "LM1102", f"{name} is missing", where=where, help=f"add {name}, or --{loc[-1]}".replace("_", "-")
        )
    message = detail["msg"].removeprefix("Input should be").strip()
    return Problem("LM1102", f"{name} must be {message}", where=where, value=repr(detail["input"])[:80])


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
