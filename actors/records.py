"""The nouns that travel between driver and workers, and the schema of what they leave behind."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa

from actors.errors import Problem
from actors.ingredients import Ingredient, InputImages

SCHEMA_VERSION = 1
"""Of every file that lightmill writes. Readers refuse a higher one."""
CONTAINERS = (".tar", ".parquet")
"""How the names of data files end that hold all the images of an attempt."""

Status = Literal["ok", "failed", "filtered"]


@dataclass(frozen=True, slots=True)
class Shard:
    """Rows `[start, stop)` of a lane, counted within that lane: the unit of work, retry and commit."""

    index: int
    lane: int
    start: int
    stop: int

    @property
    def name(self) -> str:
        """`000000042`: the shard's part of every file name."""
        return f"{self.index:09d}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One row of the prompt table, read and checked. What steers the generation is None where the row is silent.

    `problem` says why no image can be made of it; such a row is promised all the same and becomes a failed sample.
    `columns` holds every column of the table that lightmill has no use for, to be carried into the metadata.
    """

    source_row: int
    id: str
    text: str
    negative_prompt: str | None = None
    seed: int | None = None
    width: int | None = None
    height: int | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    image: str | None = None
    """An input image as the table names it: a URL, or a path from the table's folder. So are the next two."""
    mask_image: str | None = None
    depth_map: str | None = None
    strength: float | None = None
    noise_level: int | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)
    stripped: int = 0
    """Control, zero-width and bidi characters that were taken out of the text."""
    problem: Problem | None = None
    filtered: Problem | None = None
    """Why the job's filter leaves the row out; such a row is promised, too, and becomes a filtered sample."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRequest:
    """One image to be made: a prompt, which of its images, and every parameter, resolved."""

    prompt: Prompt
    image_index: int
    lane: int
    negative_prompt: str
    seed: int
    seed_rejected: int | None
    """The seed that gave a blank image before this one, if any."""
    width: int
    height: int
    num_inference_steps: int
    guidance_scale: float
    strength: float | None = None
    """None where the task has none; so is `noise_level`."""
    noise_level: int | None = None
    chunks: int = 1
    """How often the text encoder is asked for its prompt: more than once only where long prompts are read whole."""
    input_files: Mapping[str, Ingredient] = field(default_factory=dict)
    """By the names of `InputImages`."""
    input_images: InputImages | None = field(default=None, compare=False, repr=False)
    """None until the files are read, right before the request goes on the device."""
    key: str = field(init=False, compare=False, repr=False)
    """Of the sample; kept, as each is asked for ten times."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", sample_key(self.prompt.source_row, self.image_index, self.lane))


@dataclass(frozen=True, slots=True)
class Batch:
    """One forward pass: requests that agree in size, steps, guidance and whatever else `actors.batches` lists.

    `size` is the number of images computed, never less than `len(requests)`: a batch of which only some rows are
    wanted is filled up, since another batch size moves most images by a rounding step while neighbours change nothing.
    """

    requests: tuple[ImageRequest, ...]
    size: int


def sample_key(source_row: int, image_index: int, lane: int) -> str:
    """`000000000017-0001-00`: one image of a job. Fixed width, so keys sort as rows do; no dot, which would split
    a WebDataset sample in two."""
    return f"{source_row:012d}-{image_index:04d}-{lane:02d}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardOrder:
    """What the driver asks of a worker: a shard, and what it has learnt of single images of it (by their keys)."""

    shard: Shard
    alone: frozenset[str] = frozenset()
    """Were on a device when its process died: each runs in a batch of its own, filled up to its usual size."""
    condemned: Mapping[str, Problem] = field(default_factory=dict)
    """Killed too many workers: failed samples, not tried again."""
    verdict: Problem | None = None
    """The shard itself was tried too often: all its images are failed samples, for this reason."""
    only: frozenset[str] | None = None
    """Make these images and no others (`retry`); None: all."""
    parents: Shard | None = None
    """Of a later stage: the shard of the stage before, committed, of whose images these are made."""


@dataclass(frozen=True, slots=True)
class DataFile:
    """An immutable file of a shard, written by one attempt and never again. Of `--sink files`, one per image."""

    file: str
    """Relative to the output."""
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardReport:
    """What a worker hands back for a shard: enough to commit it, and no pixels."""

    shard: Shard
    attempt: str
    """Minted inside the worker's call, as Ray may run a call twice."""
    metadata: bytes
    """The shard's Parquet file, ready to be put."""
    files: tuple[DataFile, ...]
    rows: int
    failed: int
    filtered: int
    batch_size: int
    """The largest batch that fitted: smaller than asked for when the device ran out of memory."""
    seconds: Mapping[str, float]
    """Of the worker, by cause; see `actors.clock.CAUSES`."""


@dataclass(frozen=True, slots=True)
class Beat:
    """A worker's word to the driver while it does a shard.

    `announced` are the keys of the batches that are on the device or next; the worker goes on only once the driver
    has this, so that whatever kills the process, the driver knows which rows were there.
    """

    announced: tuple[str, ...]
    done: int
    """Images finished in this shard so far, whatever became of them."""
    failed: int


SAMPLE_SCHEMA = pa.schema(
    [
        ("schema_version", pa.int32()),
        ("id", pa.string()),
        ("source_row", pa.int64()),
        ("image_index", pa.int32()),
        ("lane", pa.int32()),
        ("key", pa.string()),
        ("status", pa.string()),
        ("error_code", pa.string()),
        ("error", pa.string()),
        ("prompt", pa.string()),
        ("negative_prompt", pa.string()),
        ("prompt_truncated", pa.int32()),
        ("model", pa.string()),
        ("model_revision", pa.string()),
        ("weights_sha256", pa.string()),
        ("model_license", pa.string()),
        ("model_tier", pa.string()),
        ("recipe", pa.string()),
        ("seed", pa.int64()),
        ("seed_rejected", pa.int64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("num_inference_steps", pa.int32()),
        ("guidance_scale", pa.float64()),
        ("scheduler", pa.string()),
        ("strength", pa.float64()),
        ("dtype", pa.string()),
        ("batch_size", pa.int32()),
        ("threads", pa.int32()),
        ("nsfw", pa.bool_()),
        ("nsfw_score", pa.float64()),
        ("stage", pa.int32()),
        ("parents", pa.list_(pa.string())),
        ("digital_source_type", pa.string()),
        ("file", pa.string()),
        ("file_offset", pa.int64()),
        ("file_length", pa.int64()),
        ("format", pa.string()),
        ("sha256", pa.string()),
        ("shard", pa.int64()),
        ("attempt", pa.string()),
        ("worker", pa.string()),
        ("device", pa.string()),
        ("created_at", pa.timestamp("us", tz="UTC")),
        ("generate_seconds", pa.float64()),
        ("lightmill_version", pa.string()),
        ("diffusers_version", pa.string()),
    ]
)
"""One row per promised image (`docs/metadata.md` says what each column means). The columns of the user's table follow,
each under its own name, or with `input_` before it where ours has that name."""


def carried_name(column: str, taken: Collection[str] = SAMPLE_SCHEMA.names) -> str:
    """The name under which a column of the user's table appears beside ours: no two get the same."""
    return f"input_{column}" if re.sub("^(input_)+", "", column) in taken else column
