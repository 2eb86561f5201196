"""Line-up: the same prompts as several models drew them, side by side, from outputs that exist."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from actors.contact_sheet import ContactSheet, room, shrink
from actors.encoding import decode
from actors.errors import InputError, LightmillError, Problem
from actors.models.model import Pixels
from actors.storage.bucket import Bucket
from jobs.lookup import Lookup
from jobs.manifest import Manifest

Row = Mapping[str, Any]
Output = tuple[Bucket, Manifest]
NO_ROW = "nothing was promised here, or it is not made yet"


@dataclass(frozen=True, slots=True)
class LineUp:
    """What is seen, and in how many cells there is no picture."""

    sheet: ContactSheet
    missing: int


def line_up(outputs: Sequence[Output], prompts: int) -> LineUp:
    """The first image of each of the first prompts of the first output, and what the others have of the same ids.

    Each lane of each output is a column. Raises `InputError` where no row is there, or where they share no id.
    """
    ids = Lookup(*outputs[0]).first(prompts)
    found = [Lookup(*output).find(ids) if ids else [] for output in outputs]
    _refuse_strangers(outputs, found)
    columns = [
        (output, lane, {row["id"]: row for row in rows if row["lane"] == lane and row["image_index"] == 0})
        for output, rows in zip(outputs, found, strict=True)
        for lane in range(len(output[1].spec.lanes))
    ]
    texts = {row["id"]: row["prompt"] or "" for rows in reversed(found) for row in rows}
    side = room(len(ids), len(columns))
    cells = [[_cell(output[0], rows.get(name), side) for output, _, rows in columns] for name in ids]
    headings = [_heading(output[1], lane, list(rows.values()), len(outputs)) for output, lane, rows in columns]
    missing = sum(isinstance(cell, str) for row in cells for cell in row)
    return LineUp(ContactSheet(headings, [texts[name] for name in ids], cells), missing)


def _refuse_strangers(outputs: Sequence[Output], found: Sequence[Sequence[Row]]) -> None:
    problems = [
        Problem(
            "LM1825",
            "no image is there yet" if bucket is outputs[0][0] else f"no row has an id of {outputs[0][0].url}",
            where=bucket.url,
            help="name outputs that were made from the same table",
        )
        for (bucket, _), rows in zip(outputs, found, strict=True)
        if not rows
    ]
    if problems:
        raise InputError(*problems)


def _cell(bucket: Bucket, row: Row | None, side: int) -> Pixels | str:
    if row is None:
        return NO_ROW
    if row["status"] != "ok":
        return f"{row['status']}, {row['error_code']}: {row['error']}"
    try:
        return shrink(decode(bucket.read(row["file"], row["file_offset"], row["file_length"])), side)
    except LightmillError as error:  # one image that is gone leaves the others to be seen
        return f"{error.problems[0].code}: {error.problems[0].message}"


def _heading(manifest: Manifest, lane: int, rows: Sequence[Row], outputs: int) -> list[str]:
    """The model, its rights, and how it was told to draw; of several outputs their names as well."""
    name = manifest.spec.lanes[lane].model
    stage = f"stage {lane}: " if manifest.spec.stages else ""
    lines = [stage + (PurePath(name).name or name)]
    row = next((row for row in rows if row["status"] == "ok"), next(iter(rows), None))
    if row is not None:
        lines.append(f"licence {row['model_license']}, tier {row['model_tier']}")
        if row["num_inference_steps"] is not None and row["guidance_scale"] is not None:
            lines.append(f"steps {row['num_inference_steps']}, guidance {row['guidance_scale']:g}")
    return [*lines, manifest.spec.name] if outputs > 1 else lines
