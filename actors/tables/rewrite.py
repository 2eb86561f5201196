"""Rewriting: a table that workers cannot read by small row groups, streamed once into Parquet that they can."""

import io
from collections.abc import Iterable, Iterator
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from actors import crash
from actors.errors import InputError, Problem
from actors.settings import StorageSettings
from actors.storage.bucket import Bucket
from actors.tables.parquet import MAX_GROUP_ROWS
from actors.tables.source import Progress, TableSource
from actors.tables.stream import stream
from actors.tables.table import OURS, PromptTable, TableFile

GROUP_BYTES = 64 << 20
PART_BYTES = 64 << 20
"""Compressed. Two copies of a part are in memory at once, and that is all that rewriting holds besides a row group."""
PART_GROUPS = 64


def rewrite(
    source: TableSource,
    bucket: Bucket,
    storage: StorageSettings,
    *,
    prefix: str = "prompts/",
    progress: Progress | None = None,
) -> PromptTable:
    """Stream the source into Parquet under `prefix`. The table that comes back keeps the identity of the source.

    Its files are named relative to the bucket, so that an output can be moved (see `PromptTable.located`), and as no
    other attempt names them: one that dies leaves orphans, and never a mixture.
    """
    attempt = uuid4().hex[:12]
    files = []
    done = 0
    tables = (batch.table for batch in stream(source, storage))
    for number, (data, groups) in enumerate(pack(tables, source.schema)):
        key = f"{prefix}{attempt}-{number:06d}.parquet"
        bucket.put(key, data)
        crash.point("rewrite.part")
        files.append(TableFile(key, OURS, groups))
        done += sum(groups)
        if progress:
            progress(done)
    if done != source.rows:
        message = f"{done:,} rows were read, {source.rows:,} had been counted"
        raise InputError(
            Problem("LM1022", message, source.identity.uri, help="let nothing write to the table meanwhile")
        )
    return PromptTable(identity=source.identity, files=tuple(files), schema=source.schema)


def pack(tables: Iterable[pa.Table], schema: pa.Schema) -> Iterator[tuple[bytes, tuple[int, ...]]]:
    """Tables of any size as whole Parquet files, with the rows of their row groups."""
    sink, groups = io.BytesIO(), list[int]()
    writer = _writer(sink, schema)
    for group in _groups(tables):
        writer.write_table(group, row_group_size=MAX_GROUP_ROWS)
        groups.append(group.num_rows)
        if sink.tell() > PART_BYTES or len(groups) == PART_GROUPS:
            writer.close()
            yield sink.getvalue(), tuple(groups)
            sink, groups = io.BytesIO(), []
            writer = _writer(sink, schema)
    writer.close()
    if groups:
        yield sink.getvalue(), tuple(groups)


def _groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in row groups: at most `MAX_GROUP_ROWS` rows, and little more than `GROUP_BYTES` bytes."""
    waiting: list[pa.Table] = []
    rows = size = 0
    for table in tables:
        start = 0
        while start < table.num_rows:
            piece = table.slice(start, MAX_GROUP_ROWS - rows)
            start += piece.num_rows
            waiting.append(piece)
            rows += piece.num_rows
            size += piece.nbytes
            if rows == MAX_GROUP_ROWS or size > GROUP_BYTES:
                yield pa.concat_tables(waiting).combine_chunks()
                waiting, rows, size = [], 0, 0
    if waiting:
        yield pa.concat_tables(waiting).combine_chunks()


def _writer(sink: io.BytesIO, schema: pa.Schema) -> pq.ParquetWriter:
    return pq.ParquetWriter(sink, schema, compression="zstd", write_page_checksum=True)
