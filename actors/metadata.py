"""A shard's metadata: the Parquet file with one row per promised image, whose PUT is the shard's commit.

Beside the rows it holds, under the key `lightmill` of the footer, a header in JSON: which shard and attempt this is,
which attempt it replaces, and the data files that its rows refer to.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from actors.errors import Problem, RunError
from actors.records import SAMPLE_SCHEMA, SCHEMA_VERSION, DataFile, Shard, carried_name

HEADER_KEY = b"lightmill"
ROW_GROUP = 65_536
DISTINCT = ("id", "key", "prompt", "seed", "file_offset", "file_length", "sha256", "created_at", "generate_seconds")
"""Columns of ours in which a value is seldom twice, so that a dictionary of the values would only be one more copy."""
REPEATED = [field.name for field in SAMPLE_SCHEMA if pa.types.is_string(field.type) and field.name not in DISTINCT]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardHeader:
    """What a shard's metadata says of the whole shard."""

    shard: Shard
    attempt: str
    replaces: str | None
    """The attempt whose metadata this took the place of (`retry`)."""
    files: tuple[DataFile, ...]
    """Every file that a row refers to, also those of replaced attempts."""
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True, slots=True)
class ShardMetadata:
    """A shard's metadata, read."""

    header: ShardHeader
    table: pa.Table


def key(shard: Shard) -> str:
    """Where the metadata of a shard is: `metadata/000000042.parquet`."""
    return f"metadata/{shard.name}.parquet"


def schema(carried: pa.Schema) -> pa.Schema:
    """Of every metadata file of a job: our columns, and those of the user's table (`carried`) under their names."""
    columns = [pa.field(carried_name(field.name), field.type) for field in carried]
    return pa.schema([*SAMPLE_SCHEMA, *columns])


def metadata_file(
    rows: Sequence[Mapping[str, Any]], carried: pa.Schema, *, shard: Shard, attempt: str, files: Sequence[DataFile]
) -> bytes:
    """The Parquet file of one attempt at a shard. What a row leaves out is null.

    `carried` are the columns of the user's table as the table names them; a row has them by their `carried_name`.
    """
    header = ShardHeader(shard=shard, attempt=attempt, replaces=None, files=tuple(files))
    return _to_bytes(pa.Table.from_pylist(rows, schema(carried)), header)


def merge(old: bytes, new: bytes) -> bytes:
    """The metadata `old` with the rows of `new`, a later attempt at some of its images, in the place of its own.

    The order of the rows stays, so do the old files of which a row still speaks.
    """
    before, after = read_metadata(old), read_metadata(new)
    made_again = {name: row for row, name in enumerate(after.table["key"].to_pylist())}
    keys = before.table["key"].to_pylist()
    assert made_again.keys() <= set(keys), "a retry makes no image that was not promised"
    offset = len(keys)
    chosen = [offset + made_again[name] if name in made_again else row for row, name in enumerate(keys)]
    table = _rows(pa.concat_tables([before.table, after.table.cast(before.table.schema)]), chosen)
    spoken_of = set(table["file"].to_pylist())
    kept = tuple(file for file in before.header.files if file.file in spoken_of)
    header = replace(after.header, replaces=before.header.attempt, files=(*kept, *after.header.files))
    return _to_bytes(table, header)


def read_metadata(data: bytes) -> ShardMetadata:
    """The whole file. Raises `RunError` where it is damaged, not ours, or of a newer lightmill."""
    with _reading(pa.BufferReader(data)) as file:
        return ShardMetadata(_header(file), file.read().replace_schema_metadata(None))


def read_header(data: bytes) -> ShardHeader:
    """The header alone, without decoding the rows. Raises as `read_metadata` does."""
    with _reading(pa.BufferReader(data)) as file:
        return _header(file)


def select_rows(opened: BinaryIO, choose: Callable[[pa.Table], Sequence[int]]) -> list[dict[str, Any]]:
    """Some rows of a file, with our own columns. Raises as `read_metadata` does.

    `choose` is shown the columns `id` and `key` of all rows, and says which it wants; the others are read for these.
    """
    with _reading(opened) as file:
        _header(file)
        chosen = choose(file.read(columns=["id", "key"]))
        return _rows(file.read(columns=SAMPLE_SCHEMA.names), chosen).to_pylist() if chosen else []


def read_statuses(opened: BinaryIO) -> tuple[NDArray[np.int64], NDArray[np.object_]]:
    """The source row and the status of every image of a file. Raises as `read_metadata` does."""
    with _reading(opened) as file:
        _header(file)
        table = file.read(columns=["source_row", "status"])
    return table["source_row"].to_numpy(), table["status"].to_numpy(zero_copy_only=False)


def _rows(table: pa.Table, chosen: Sequence[int]) -> pa.Table:
    """These rows in this order, by slices: `take` does not know every type that a column of the user's may have."""
    slices: list[tuple[int, int]] = []
    for row in chosen:
        if slices and sum(slices[-1]) == row:
            slices[-1] = (slices[-1][0], slices[-1][1] + 1)
        else:
            slices.append((row, 1))
    return pa.concat_tables([table.slice(start, length) for start, length in slices])


def _to_bytes(table: pa.Table, header: ShardHeader) -> bytes:
    sink = pa.BufferOutputStream()
    table = table.replace_schema_metadata({HEADER_KEY: json.dumps(asdict(header), separators=(",", ":"))})
    pq.write_table(
        table, sink, compression="zstd", row_group_size=ROW_GROUP, use_dictionary=REPEATED, write_page_checksum=True
    )
    return bytes(sink.getvalue())


@contextmanager
def _reading(source: pa.BufferReader | BinaryIO) -> Iterator[pq.ParquetFile]:
    """The file, open. What a flipped bit leads to, anywhere in it, is a `RunError`."""
    try:
        with pq.ParquetFile(source, page_checksum_verification=True) as file:
            yield file
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:  # the last three: of the header
        raise RunError(_damaged(str(error).partition("\n")[0])) from error


def _header(file: pq.ParquetFile) -> ShardHeader:
    text = (file.schema_arrow.metadata or {}).get(HEADER_KEY)
    if text is None:
        raise RunError(_damaged("it has no `lightmill` entry"))
    values = json.loads(text)
    if values["schema_version"] > SCHEMA_VERSION:
        message = f"the metadata is of schema version {values['schema_version']}, this lightmill knows {SCHEMA_VERSION}"
        raise RunError(Problem("LM1313", message, help="upgrade lightmill"))
    files = tuple(DataFile(**entry) for entry in values["files"])
    return ShardHeader(**{**values, "shard": Shard(**values["shard"]), "files": files})


def _damaged(why: str) -> Problem:
    return Problem(
        "LM1317",
        f"this is no metadata of a shard: {why}",
        help="`lightmill verify` names the file; delete it, and the same job makes its shard again",
    )
