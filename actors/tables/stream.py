"""A source's rows from the first to the last, in batches small enough to hold, with the place of each for messages."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import pyarrow as pa

from actors.errors import InputError
from actors.settings import StorageSettings
from actors.tables.carried import cast
from actors.tables.files import FoundFile, require_unchanged
from actors.tables.parquet import BATCH_BYTES, BATCH_ROWS, ParquetFile
from actors.tables.scan import BLOCK_ROWS
from actors.tables.source import SourceFile, TableSource
from actors.tables.text import fields, header, objects, ragged
from actors.tables.values import as_text

Records = Iterator[tuple[int, Sequence[Any]]]
Piece = tuple[int, Sequence[int], pa.Table]
"""The first row, counted within the file; the place of each; the rows."""


@dataclass(frozen=True, slots=True)
class SourceBatch:
    """Some consecutive rows of the source."""

    table: pa.Table
    """In the types of `TableSource.schema`."""
    first_row: int
    """Of the whole source, counted from 0."""
    url: str
    places: Sequence[int]
    """Of each row within its file: the line of a text file (from 1), the row of a Parquet file (from 0)."""


def stream(
    source: TableSource,
    storage: StorageSettings,
    wanted: Callable[[int], bool] = lambda block: True,
    most: int | None = None,
) -> Iterator[SourceBatch]:
    """The rows of the wanted blocks, which are numbered through all files: of each the first `most` or so, or all."""
    first_row = first_block = 0
    for file in source.files:
        chosen = [wanted(first_block + index) for index in range(len(file.blocks))]
        if any(chosen):
            require_unchanged(file.found.url, file.found.version, storage)
            pieces = _parquet if file.found.format == "parquet" else _text
            for row, places, table in pieces(file, source.schema, storage, chosen, most):
                yield SourceBatch(cast(table, source.schema), first_row + row, file.found.url, places)
            require_unchanged(file.found.url, file.found.version, storage)  # nor was it written to meanwhile
        first_row += sum(file.blocks)
        first_block += len(file.blocks)


def _parquet(
    file: SourceFile, _: pa.Schema, storage: StorageSettings, chosen: Sequence[bool], most: int | None
) -> Iterator[Piece]:
    parquet = ParquetFile(file.found.url, storage)
    starts = list(accumulate(file.blocks, initial=0))
    for index in (index for index, is_chosen in enumerate(chosen) if is_chosen):
        row = starts[index]
        for table in parquet.batches(index):
            yield row, range(row, row + table.num_rows), table
            row += table.num_rows
            if most and row - starts[index] >= most:
                break


def _text(
    file: SourceFile, schema: pa.Schema, storage: StorageSettings, chosen: Sequence[bool], _: int | None
) -> Iterator[Piece]:
    """Text has no row groups: what is not wanted is read all the same, and dropped."""
    records = _object_records if file.found.format == "jsonl" else _field_records
    batch: list[Sequence[Any]] = []
    places: list[int] = []
    size = row = 0
    for place, record in records(file.found, schema, storage):
        if batch and (len(batch) == BATCH_ROWS or size > BATCH_BYTES or row % BLOCK_ROWS == 0):
            yield row - len(batch), places, _table(batch, schema)
            batch, places, size = [], [], 0
        if chosen[min(row // BLOCK_ROWS, len(chosen) - 1)]:
            batch.append(record)
            places.append(place)
            size += sum(len(value) if isinstance(value, str) else 8 for value in record)
        row += 1
    if batch:
        yield row - len(batch), places, _table(batch, schema)


def _field_records(file: FoundFile, schema: pa.Schema, storage: StorageSettings) -> Records:
    records = fields(file, storage)
    names = header(file, next(records)[1])
    order = [names.index(name) for name in schema.names]
    straight = order == list(range(len(names)))
    for line, record in records:
        if len(record) != len(names):  # the file was changed since it was scanned
            raise InputError(ragged(file, line, len(record), len(names)))
        yield line, record if straight else [record[index] for index in order]


def _object_records(file: FoundFile, schema: pa.Schema, storage: StorageSettings) -> Records:
    makers = [(column.name, MAKERS.get(str(column.type), _text_value)) for column in schema]
    for line, row in objects(file, storage):
        yield line, [None if row.get(name) is None else make(row[name]) for name, make in makers]


def _text_value(value: object) -> str | None:
    text = as_text(value)
    return text and text.encode("utf-8", "replace").decode()  # JSON can spell half a surrogate pair; UTF-8 cannot


MAKERS: dict[str, Callable[[Any], object]] = {"double": float, "int64": int, "bool": bool}


def _table(records: Sequence[Sequence[Any]], schema: pa.Schema) -> pa.Table:
    columns = zip(*records, strict=True)
    return pa.table(
        [pa.array(values, column.type) for values, column in zip(columns, schema, strict=True)], schema=schema
    )
