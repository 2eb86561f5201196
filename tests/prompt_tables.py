"""Tables to read: written on the spot, in every format."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.settings import StorageSettings
from actors.tables.reader import TableReader
from actors.tables.source import open_source
from actors.tables.stream import stream

HERE = StorageSettings()


def parquet(path: Path, columns: dict, **options) -> str:
    """A Parquet file of these columns."""
    pq.write_table(pa.table(columns), path, **options)
    return str(path)


def compressed(path: Path, text: str) -> str:
    """The text under a name that says how it is compressed."""
    data = text.encode()
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(data))
    elif path.suffix == ".zst":
        with pa.OSFile(str(path), "wb") as raw, pa.CompressedOutputStream(raw, "zstd") as stream_:
            stream_.write(data)
    else:
        path.write_bytes(data)
    return str(path)


def jsonl(path: Path, *rows: dict) -> str:
    """A JSONL file of these objects."""
    return compressed(path, "".join(json.dumps(row) + "\n" for row in rows))


def rows_of(uri: str) -> list[dict]:
    """Every row of the table, as Python values."""
    source = open_source(uri, HERE)
    return [row for batch in stream(source, HERE) for row in batch.table.to_pylist()]


def reader(table, columns=None, overrides=()) -> TableReader:
    """A reader of a table that lies here."""
    return TableReader(table, columns or {}, overrides, HERE)


def problems_of(error: pytest.ExceptionInfo) -> list[str]:
    """The codes of what was raised."""
    return [problem.code for problem in error.value.problems]
