"""Job files: YAML, environment and flags become one validated JobSpec, or every problem at once."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsError

from actors import crash
from actors.errors import InputError, Problem, UsageError
from actors.faults import not_yaml
from actors.models.card import is_hub_id
from actors.models.registry import SUFFIXES, find_card
from actors.models.settings import ModelSettings
from cluster.faults import Origin, problems, strays
from cluster.schedule.slot import TEMPLATES, has_template
from jobs.spec import JobSpec

ENV_PREFIX = "LIGHTMILL_"
OTHERS_OF_OURS = frozenset({crash.VARIABLE})
"""Variables with our prefix that are no fields of a job."""
OF_A_MODEL = frozenset(ModelSettings.model_fields)
WEIGHTS = frozenset({"mirror", "config", "tokenizer", "vae", "loras", "textual_inversions"})
"""Fields of a model that say where more of it is."""
EXAMPLE_OF_JSON = """write it as JSON, such as LIGHTMILL_OVERRIDES='["seed", "width"]'"""
LANES = ("models", "stages")
PATHS = ("prompts", "output", "block_list", "folder")
WITH_PATHS = ("prompt_filter", "inputs")
"""Maps that hold such paths."""
NEEDED = ("prompts", "output", "model")
OF_A_SLOT = ("prompts", "output")
"""Fields that may differ from one slot of a schedule to the next."""
Fill = Callable[[str], str]


class _Environment(BaseSettings, JobSpec):  # type: ignore[misc] # their two model_config types differ
    """Only there to say how variables are named: `LIGHTMILL_SEED`, `LIGHTMILL_LIMITS__MAX_ATTEMPTS`."""


def _refuse_templates(text: str) -> str:
    if has_template(text):
        said, action = f"only a schedule says what {' and '.join(TEMPLATES)} are", "lightmill schedule run"
        raise InputError(Problem("LM1704", said, value=text, help=f"run it by `{action}`, or write out a place"))
    return text


def load_job(path: Path | None, flags: Mapping[str, Any], fill: Fill = _refuse_templates) -> JobSpec:
    """The job that a file, the environment and the flags describe; flags win over environment over file.

    Flags that belong to a model apply to the job's only model. Relative paths of a file are relative to its folder,
    those of flags and of the environment to the current one. Raises `InputError` with all problems, and `UsageError`
    for flags that contradict the file. `fill` puts the words of a slot into what may have templates.
    """
    document, root = _read(path) if path else ({}, None)
    environment = _from_here(_environment())
    values = _deep_update(document, environment, _top_flags(flags))
    values = _with_model_flags(values, flags)
    values |= {name: fill(values[name]) for name in OF_A_SLOT if isinstance(values.get(name), str)}
    unknown = [*strays(_variables(), ENV_PREFIX, environment)]
    if path is None and not unknown:
        _refuse_gaps(values)
    try:
        spec = JobSpec.model_validate(values)
    except ValidationError as error:
        origin = Origin(str(path) if path else None, root, environment, flags)
        raise InputError(*unknown, *problems(error, origin)) from None
    if unknown:
        raise InputError(*unknown)
    if spec.only_new and fill is _refuse_templates:
        said = "only a schedule knows what is new"
        raise InputError(Problem("LM1704", said, value="only_new: true", help="run it by `lightmill schedule run`"))
    return spec


def _read(path: Path) -> tuple[dict[str, Any], yaml.Node | None]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(
            Problem("LM1104", "there is no job file here", where=str(path), help="name a YAML file that exists")
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InputError(
            Problem("LM1104", f"the job file cannot be read: {why}", where=str(path), help="name a readable YAML file")
        ) from None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(_not_yaml(path, error)) from None
    if not isinstance(document, dict):
        action = "write lines like `seed: 7`; a table of prompts is named by `--prompts`"
        raise InputError(Problem("LM1100", "the job file is not a mapping", where=str(path), help=action))
    folder = path.absolute().parent
    document = _relative_to(folder, document)
    for lanes in LANES:
        if isinstance(document.get(lanes), list):
            document[lanes] = [_model_relative_to(folder, entry) for entry in document[lanes]]
    return document, root


def _not_yaml(path: Path, error: yaml.YAMLError) -> Problem:
    said, where = not_yaml(error, str(path))
    return Problem("LM1100", f"the job file is not YAML: {said}", where=where, help="mend that line")


def _relative_to(folder: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with absolute paths: those of `PATHS` always are paths, unless they are URLs."""
    paths = {name: value for name, value in values.items() if name in PATHS and isinstance(value, str)}
    made = {**values, **{name: _absolute(folder, value) for name, value in paths.items() if value}}
    within = {name: value for name in WITH_PATHS if isinstance(value := made.get(name), dict)}
    return {**made, **{name: _relative_to(folder, value) for name, value in within.items()}}


def _model_relative_to(folder: Path, entry: Any) -> Any:  # noqa: ANN401 - whatever the file says
    """Weights are at a path where it looks like one: `./sd`, `../sd`, `~/sd`, `mine.yaml`; and where a name that could
    be a hub id, which no card knows, is that of something here."""
    if isinstance(entry, list):
        return [_model_relative_to(folder, one) for one in entry]
    if isinstance(entry, dict):
        paths = {name: value for name, value in entry.items() if name == "model" or name in WEIGHTS}
        return {**entry, **{name: _model_relative_to(folder, value) for name, value in paths.items()}}
    return _absolute(folder, entry) if isinstance(entry, str) and _is_path(folder, entry) else entry


def _is_path(folder: Path, name: str) -> bool:
    if name.startswith(("./", "../", "~")) or name.endswith(SUFFIXES):
        return True
    return is_hub_id(name) and (folder / name).exists() and find_card(name) is None


def _absolute(folder: Path, value: str) -> str:
    return value if "://" in value else os.path.normpath(folder / Path(value).expanduser())


def _environment() -> dict[str, Any]:
    source = EnvSettingsSource(_Environment, env_prefix=ENV_PREFIX, env_nested_delimiter="__")
    try:
        return dict(source())
    except SettingsError as error:  # of a list or mapping that is not JSON; it names the field
        field = str(error).partition('"')[2].partition('"')[0]
        name = f"{ENV_PREFIX}{field.upper()}"
        problem = Problem("LM1102", f"{name} must be JSON", where=f"{name} in the environment", help=EXAMPLE_OF_JSON)
        raise InputError(problem) from None


def _variables() -> list[str]:
    """Those of the environment that can only be meant for us."""
    return [name for name in os.environ if name.upper().startswith(ENV_PREFIX) and name not in OTHERS_OF_OURS]


def _from_here(values: Mapping[str, Any]) -> dict[str, Any]:
    return _relative_to(Path.cwd(), values)


def _top_flags(flags: Mapping[str, Any]) -> dict[str, Any]:
    return _from_here({name: value for name, value in flags.items() if name not in OF_A_MODEL})


def _with_model_flags(values: dict[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in flags.items() if name in OF_A_MODEL}
    kind = "stages" if values.get("stages") else "models"
    models = values.get(kind) or [{}]
    if not given or not isinstance(models, list):
        return values
    if len(models) > 1 or kind == "stages":
        name = "--" + next(iter(given)).replace("_", "-")
        raise UsageError(
            Problem(
                "LM1103",
                f"{name} does not say which of the job's {len(models)} {kind} it is for",
                help=f"set it in the job file, under that {kind[:-1]}",
            )
        )
    first = models[0] if isinstance(models[0], dict) else {}
    return {**values, "models": [{**first, **_model_relative_to(Path.cwd(), given)}]}


def _refuse_gaps(values: Mapping[str, Any]) -> None:
    """Without a job file, flags have to say what a job cannot do without."""
    given = {**values, "model": values.get("models") or values.get("stages")}
    missing = [f"--{name}" for name in NEEDED if not given.get(name)]
    if missing:
        listed = ", ".join(missing)
        raise UsageError(Problem("LM1103", f"missing: {listed}", help=f"add {listed}, or name a job file (JOB.yaml)"))


def _deep_update(*mappings: Mapping[str, Any]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for mapping in mappings:
        for name, value in mapping.items():
            both = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
            merged[name] = _deep_update(merged[name], value) if both else value
    return merged
