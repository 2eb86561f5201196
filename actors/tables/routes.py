"""Which rows of a table are which lane's, where its `model` column says so."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from actors.settings import StorageSettings
from actors.tables.carried import cast, values_of
from actors.tables.parquet import ParquetFile
from actors.tables.row import lane_name
from actors.tables.table import PromptTable, TableFile

THREADS = 8


def route(table: PromptTable, column: str, lanes: Sequence[str], storage: StorageSettings) -> PromptTable:
    """The table with its rows counted by row group and lane. Reads that one column, and nothing else."""
    schema = pa.schema([table.schema.field(column)])

    def count(file: TableFile) -> list[tuple[int, ...]]:
        parquet = ParquetFile(file.url, storage)
        groups = (parquet.group(index, [column]) for index in range(len(file.row_groups)))
        numbers = (lane_numbers(cast(group, schema).column(0), lanes) for group in groups)
        return [tuple(np.bincount(group, minlength=len(lanes)).tolist()) for group in numbers]

    with ThreadPoolExecutor(THREADS) as threads:
        counts = [group for file in threads.map(count, table.files) for group in file]
    return replace(table, lanes=tuple(lanes), routes=tuple(counts))


def lane_numbers(names: pa.ChunkedArray, lanes: Sequence[str]) -> NDArray[np.int64]:
    """For every row the number of its lane: the first with that name; 0 where it names none, or one that is unknown."""
    numbers = {name: number for number, name in reversed(list(enumerate(lanes)))}
    distinct = pc.dictionary_encode(names, null_encoding="encode").combine_chunks()
    chunks = distinct.chunks if isinstance(distinct, pa.ChunkedArray) else [distinct]
    parts = [np.zeros(0, np.int64)]
    for chunk in chunks:
        entries = values_of(pa.chunked_array([chunk.dictionary]))
        lane_of_entry = np.array([numbers.get(lane_name(value), 0) for value in entries], np.int64)
        parts.append(lane_of_entry[chunk.indices.to_numpy(zero_copy_only=False)])
    return np.concatenate(parts)
