"""OUT: a folder or an `s3://` prefix, which is what every command calls a job by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from actors.errors import InputError, Problem

if TYPE_CHECKING:
    from actors.storage.bucket import Bucket
    from jobs.manifest import Manifest


def _absolute(value: str) -> str:
    from actors.storage.opening import absolute

    return absolute(value)


Output = Annotated[
    str, typer.Argument(metavar="OUT", help="The output of a job: a folder or an s3:// prefix.", callback=_absolute)
]


def manifest_of(output: str) -> tuple[Bucket, Manifest]:
    """The store of an output, and what was promised there. Raises `InputError` where nothing was."""
    from actors.storage.opening import open_bucket
    from jobs.manifest import Manifest

    bucket = meet(output)
    manifest = Manifest.load(bucket)
    if manifest is None:
        raise InputError(nothing_here(output))
    return open_bucket(output, manifest.spec.storage), manifest


def meet(output: str) -> Bucket:
    """The store of an output, for a first look: with little patience."""
    from actors.storage.opening import FIRST_MEETING_SECONDS, open_bucket

    return open_bucket(output, patience_seconds=FIRST_MEETING_SECONDS)


def nothing_here(output: str) -> Problem:
    """No job is bound to this output."""
    return Problem("LM1316", "no job has been run here", where=output, help="name the output of a job")
