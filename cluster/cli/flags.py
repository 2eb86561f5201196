"""Flags that describe a job, said once for every command that takes one."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from cluster.cli.app import app

_JOB = "The job"
_MODEL = "The model"


class JobFlags:
    """Each is a field of the job file, with dashes; those with other names are translated in `_fields`."""

    job: Annotated[Path | None, typer.Argument(help="A job file (YAML). Flags win over what it says.")]
    prompts: Annotated[
        str | None,
        typer.Option(help="File, folder or glob, local or s3:// (.parquet .csv .tsv .jsonl).", rich_help_panel=_JOB),
    ]
    output: Annotated[str | None, typer.Option(help="A folder or an s3:// prefix.", rich_help_panel=_JOB)]
    column: Annotated[
        list[str] | None,
        typer.Option(help="Where names differ: prompt=caption. Repeatable.", rich_help_panel=_JOB),
    ]
    override: Annotated[
        str | None, typer.Option(help="Columns that steer the generation: width,height,seed.", rich_help_panel=_JOB)
    ]
    seed: Annotated[int | None, typer.Option(help="Of the job; each image derives its own.", rich_help_panel=_JOB)]
    images_per_prompt: Annotated[int | None, typer.Option(rich_help_panel=_JOB)]
    shard_size: Annotated[int | None, typer.Option(help="Images committed at once.", rich_help_panel=_JOB)]
    image_format: Annotated[
        str | None, typer.Option(help="webp or png (both lossless), or jpeg.", rich_help_panel=_JOB)
    ]
    sink: Annotated[
        str | None,
        typer.Option(
            help="webdataset (tars), parquet (images inside), or files (one per image).", rich_help_panel=_JOB
        ),
    ]
    model: Annotated[
        str | None,
        typer.Option(
            help="A name of `lightmill models`, a hub id, a folder, or a card (.yaml).", rich_help_panel=_MODEL
        ),
    ]
    scheduler: Annotated[str | None, typer.Option(help='Such as "dpm++ 2m karras".', rich_help_panel=_MODEL)]
    num_inference_steps: Annotated[int | None, typer.Option(rich_help_panel=_MODEL)]
    guidance_scale: Annotated[float | None, typer.Option(rich_help_panel=_MODEL)]
    height: Annotated[int | None, typer.Option(help="Pixels.", rich_help_panel=_MODEL)]
    width: Annotated[int | None, typer.Option(help="Pixels.", rich_help_panel=_MODEL)]
    negative_prompt: Annotated[str | None, typer.Option(rich_help_panel=_MODEL)]
    batch_size: Annotated[str | None, typer.Option(help="Images in one forward pass, or auto.", rich_help_panel=_MODEL)]
    workers: Annotated[int | None, typer.Option(help="Left out: one per GPU, one on a CPU.", rich_help_panel=_MODEL)]


def job_command(**options: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:  # noqa: ANN401
    """Register a command whose first parameter is the JobSpec that these flags describe."""

    def register(command: Callable[..., None]) -> Callable[..., None]:
        flags = [_parameter(name, hint) for name, hint in get_type_hints(JobFlags, include_extras=True).items()]
        _spec, *rest = inspect.signature(command).parameters.values()
        own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in rest]

        def wrapper(**given: Any) -> None:  # noqa: ANN401
            from cluster.jobfile import load_job

            values = {parameter.name: given.pop(parameter.name) for parameter in own}
            command(load_job(given.pop("job"), _fields(given)), **values)

        wrapper.__name__, wrapper.__doc__ = command.__name__, command.__doc__
        wrapper.__signature__ = inspect.Signature([*flags, *own])  # type: ignore[attr-defined]
        wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in (*flags, *own)}
        app.command(**options)(wrapper)
        return command

    return register


def _parameter(name: str, hint: Any) -> inspect.Parameter:  # noqa: ANN401
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hint)


def _fields(flags: dict[str, Any]) -> dict[str, Any]:
    """The flags that were given, as the job file has them."""
    fields = {name: value for name, value in flags.items() if value is not None}
    if columns := fields.pop("column", None):
        fields["columns"] = dict(_pair(entry) for entry in columns)
    if (override := fields.pop("override", None)) is not None:
        fields["overrides"] = [name.strip() for name in override.split(",") if name.strip()]
    if image_format := fields.pop("image_format", None):
        fields["encoding"] = {"format": image_format}
    if (workers := fields.get("workers")) is not None:
        fields["workers"] = {"min": workers, "max": workers}
    return fields


def _pair(entry: str) -> tuple[str, str]:
    ours, separator, theirs = entry.partition("=")
    if not (ours and separator and theirs):
        raise typer.BadParameter(f"{entry!r} is not NAME=COLUMN, as in prompt=caption", param_hint="--column")
    return ours, theirs
