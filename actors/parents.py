"""Parents: the images of the stage before, of which a later stage makes its own, as the metadata has them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from actors import metadata
from actors.errors import Problem
from actors.ingredients import Parent
from actors.models.kinds import Task
from actors.models.settings import ModelSettings
from actors.models.tasks import UPSCALE
from actors.records import Prompt, Shard
from actors.storage.bucket import Bucket

Row = Mapping[str, Any]
OF_THE_IMAGE = [field.name for field in dataclasses.fields(Parent)]
COLUMNS = [*OF_THE_IMAGE, "status", "error_code", "error"]
ORPHANED = "LM1619"
"""Code of an image whose parent is not there."""


def read_parents(bucket: Bucket, shard: Shard) -> dict[str, Row]:
    """The rows of a committed shard by their keys."""
    table = metadata.read_metadata(bucket.get(metadata.key(shard))).table
    return {row["key"]: row for row in table.select(COLUMNS).to_pylist()}


def parent_key(key: str) -> str:
    """Of an image of a later stage, by its own key."""
    image, _, lane = key.rpartition("-")
    return f"{image}-{int(lane) - 1:02d}"


def parent_of(row: Row) -> Parent:
    """The image of such a row."""
    return Parent(**{name: row[name] for name in OF_THE_IMAGE})


def orphaned(row: Row) -> Problem:
    """Why nothing is made of a row without an image."""
    message = f"its parent {row['key']} is {row['status']}: {row['error']} ({row['error_code']})"
    return Problem(ORPHANED, message, help="`lightmill retry` makes failed parents again, and then this image")


def inherit(prompt: Prompt, parent: Parent, settings: ModelSettings, task: Task) -> Prompt:
    """The row as a later stage reads it: its words and its seed are the table's. The size is that of the parent, or of
    the job, and whatever else the table says is for the first stage alone."""
    wider = UPSCALE if task == "upscale" else 1
    return dataclasses.replace(
        prompt,
        image=parent.key,
        width=parent.width * wider if wider > 1 or settings.width is None else settings.width,
        height=parent.height * wider if wider > 1 or settings.height is None else settings.height,
        num_inference_steps=None,
        guidance_scale=None,
        mask_image=None,
        depth_map=None,
        strength=None,
        noise_level=None,
    )
