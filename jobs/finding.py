"""Finding: what an image that was made again is, beside the one that is stored."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from actors.encoding import decode
from actors.errors import InputError, Problem, StorageError
from actors.likeness import Likeness, likeness
from actors.storage.bucket import Bucket

Row = Mapping[str, Any]
Verdict = Literal["identical", "rounding", "different"]
ENVIRONMENT = (
    "weights_sha256",
    "model_revision",
    "recipe",
    "scheduler",
    "dtype",
    "batch_size",
    "threads",
    "device",
    "diffusers_version",
    "lightmill_version",
)
"""What of a row may explain another picture, the likeliest reason first."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What is not as it was when the image was made."""

    name: str
    then: str | None
    now: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One image, made again."""

    key: str
    id: str
    image_index: int
    verdict: Verdict
    likeness: Likeness | None
    """None where the bytes are equal, or where there are not two pictures of one size."""
    reason: str | None
    """Why it is different, where that is known beyond the pixels."""
    environment: tuple[Difference, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it, which knows no infinity: the PSNR of equal pixels is null."""
        near = self.likeness
        pixels = {
            "max_difference": near.max_difference if near else None,
            "psnr": round(near.psnr, 2) if near and math.isfinite(near.psnr) else None,
        }
        listed = asdict(self)
        del listed["likeness"]
        return listed | pixels


def compare(bucket: Bucket, row: Row, new: Row, data: bytes) -> Finding:
    """Hold the image of a row against what came out now: its new row, and its new bytes."""
    verdict, near, reason = _look(bucket, row, new, data)
    return Finding(
        key=row["key"],
        id=row["id"],
        image_index=row["image_index"],
        verdict=verdict,
        likeness=near,
        reason=reason,
        environment=tuple(
            Difference(name, _text(row[name]), _text(new[name])) for name in ENVIRONMENT if row[name] != new[name]
        ),
    )


def other_weights(model: str, then: str | None, now: str | None) -> Problem:
    """The model is not the one that made the images, so nothing else needs explaining."""
    return Problem(
        "LM1824",
        f"the weights of {model} are not those that made the images: SHA-256 {now}, was {then}",
        help="put the weights back that the job had: another model makes other images",
        severity="warning",
    )


def _look(bucket: Bucket, row: Row, new: Row, data: bytes) -> tuple[Verdict, Likeness | None, str | None]:
    if new["status"] != "ok":
        return "different", None, f"no image came out this time: {new['error']} ({new['error_code']})"
    try:
        stored = bucket.read(row["file"], row["file_offset"], row["file_length"])
    except StorageError as error:
        return "different", None, f"the stored image cannot be read: {error.problems[0].message}"
    if stored == data:
        return "identical", None, None
    changed = _changed(stored, row, new)
    try:
        before, now = decode(stored), decode(data)
    except InputError as error:
        return "different", None, changed or error.problems[0].message
    if before.shape != now.shape:
        return "different", None, changed or f"it was {_size(row)}, now it is {_size(new)}"
    near = likeness(before, now)
    rounding = near.is_rounding(row["format"]) and not changed
    return "rounding" if rounding else "different", near, changed


def _changed(stored: bytes, row: Row, new: Row) -> str | None:
    """Said of a stored image that is no longer the one that was stored."""
    if hashlib.sha256(stored).hexdigest() == row["sha256"]:
        return None
    own = "; the image made now has the row's" if new["sha256"] == row["sha256"] else ""
    return f"the stored image was changed after it was stored: its SHA-256 is not its row's{own}"


def _size(row: Row) -> str:
    return f"{row['width']}x{row['height']}"


def _text(value: object) -> str | None:
    return None if value is None else str(value)
