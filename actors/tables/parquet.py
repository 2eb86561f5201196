"""Parquet files, read so that memory follows what is stored and never what it expands to.

Text is read as dictionaries: a row group of 2,000 references to one megabyte then takes one megabyte, and how large it
would become is arithmetic. A 463-byte file that decodes to 2 GB exists, and its footer says 1 MB.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pt

from actors.errors import InputError, Problem
from actors.settings import StorageSettings
from actors.tables.files import open_file
from actors.tables.text import MAX_ROW_BYTES

MAX_GROUP_ROWS = 65_536
MAX_GROUP_BYTES = 256 << 20
"""Row groups larger than this are rewritten before workers read them."""
MAX_EXPANDED_BYTES = 1 << 30
"""Of one column's chunk, where it is stored in less than a two-hundredth of it; or of numbers in one row group."""
BATCH_ROWS = 8192
BATCH_BYTES = 16 << 20
WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}
UNREADABLE = "LM1018"
TEXT = {"NONE", "STRING", "ENUM", "JSON", "BSON"}


class ParquetFile:
    """One open file: its footer, and its row groups one at a time."""

    def __init__(self, url: str, storage: StorageSettings) -> None:
        self.url = url
        handle = open_file(url, storage)
        with self._readable():
            self._plain = pq.ParquetFile(handle, pre_buffer=False, buffer_size=1 << 20)
            self.metadata = self._plain.metadata
            self.schema = self._plain.schema_arrow
            texts = [path for path, width in self._leaves() if width is None]
            self._encoded = pq.ParquetFile(
                handle,
                metadata=self.metadata,
                read_dictionary=texts,
                pre_buffer=False,
                page_checksum_verification=True,  # where the pages carry one, as ours do: no prompt with a flipped bit
            )

    def group(self, index: int, columns: Sequence[str] | None = None) -> pa.Table:
        """A whole row group, text as dictionaries. Raises `InputError` where it is too large to be one."""
        self._check_claims(index)
        with self._readable():
            table = self._encoded.read_row_group(index, columns=columns, use_threads=False)
        self._check_expanded(index, table, table.num_rows)
        return table

    def batches(self, index: int) -> Iterator[pa.Table]:
        """A row group of any size in batches of at most `BATCH_ROWS` rows, and about `BATCH_BYTES` bytes."""
        self._check_claims(index)
        with self._readable():
            size = self._batch_rows(index)
            total = rows = 0
            for batch in self._plain.iter_batches(batch_size=size, row_groups=[index], use_threads=False):
                table = pa.Table.from_batches([batch])
                rows += table.num_rows
                total += self._check_expanded(index, table, rows, total)
                yield table

    def fits(self, index: int) -> bool:
        """Whether workers can read the row group as it is."""
        group = self.metadata.row_group(index)
        return bool(group.num_rows <= MAX_GROUP_ROWS and group.total_byte_size <= MAX_GROUP_BYTES)

    def check_footer(self, index: int) -> None:
        """Refuse what the footer itself says to be a bomb. Costs nothing for row groups of usual sizes."""
        group = self.metadata.row_group(index)
        if group.total_byte_size <= MAX_GROUP_BYTES:
            return
        chunks = [group.column(i) for i in range(group.num_columns)]
        stored = sum(chunk.total_compressed_size for chunk in chunks)
        hidden = [
            c for c in chunks if c.total_uncompressed_size > max(MAX_EXPANDED_BYTES, 200 * c.total_compressed_size)
        ]
        if hidden or _is_bomb(group.total_byte_size, group.num_rows, stored):
            raise InputError(self._bomb(index, group.total_byte_size, stored))

    def _leaves(self) -> Iterator[tuple[str, int | None]]:
        """The path of every column as Parquet stores it, and the width of its values: None where they are text."""
        schema = self.metadata.schema
        for column in map(schema.column, range(len(schema))):
            if column.physical_type == "BYTE_ARRAY" and column.logical_type.type in TEXT:
                yield column.path, None
            else:
                yield column.path, WIDTHS.get(column.physical_type, max(column.length, 16))

    def _check_claims(self, index: int) -> None:
        """Refuse lists and fixed widths of which the footer says that they expand to gigabytes."""
        self.check_footer(index)
        group = self.metadata.row_group(index)
        numbers = sum(
            group.column(i).num_values * width for i, (_, width) in enumerate(self._leaves()) if width is not None
        )
        per_row = numbers / max(1, group.num_rows)
        if numbers > MAX_EXPANDED_BYTES and per_row * BATCH_ROWS > MAX_EXPANDED_BYTES:
            raise InputError(self._bomb(index, numbers, group.total_byte_size))

    def _check_expanded(self, index: int, table: pa.Table, rows: int, before: int = 0) -> int:
        """The bytes of the table's text, written out. `rows` are those of the group so far, `before` what they had."""
        sizes = [expanded(chunk) for column in table.columns for chunk in column.chunks]
        longest = max((size[1] for size in sizes), default=0)
        total = sum(size[0] for size in sizes)
        group = self.metadata.row_group(index)
        stored = sum(group.column(i).total_compressed_size for i in range(group.num_columns))
        if _is_bomb(before + total, rows, stored):
            raise InputError(self._bomb(index, before + total, stored))
        if longest > MAX_ROW_BYTES:
            message = f"a value of {longest:,} bytes is larger than a row may be ({MAX_ROW_BYTES >> 20} MiB)"
            raise InputError(
                Problem("LM1016", message, f"{self.url}, row group {index}", help="leave it out of the table")
            )
        return total

    def _batch_rows(self, index: int) -> int:
        """How many rows surely fit in `BATCH_BYTES`: the longest dictionary entry might be every row's."""
        with self._readable():
            probe = next(self._encoded.iter_batches(batch_size=1, row_groups=[index], use_threads=False), None)
        group = self.metadata.row_group(index)
        if probe is None or not group.num_rows:
            return BATCH_ROWS
        entries = sum(longest_entry(column) for column in probe.columns)
        values = max(group.column(i).num_values for i in range(group.num_columns)) / group.num_rows
        row = entries * max(1.0, values) + group.total_byte_size / group.num_rows
        return max(1, min(BATCH_ROWS, int(BATCH_BYTES / max(1.0, row))))

    def _bomb(self, index: int, expanded_bytes: float, stored: int) -> Problem:
        message = f"row group {index} would expand from {stored:,} bytes to {expanded_bytes:,.0f} or more"
        return Problem(
            "LM1020", message, self.url, help="write the table anew from a source you trust, with smaller values"
        )

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError) as error:
            raise InputError(unreadable(self.url, error)) from error


def unreadable(url: str, error: Exception) -> Problem:
    """The file is not what its name says, or not all of it is there."""
    reason = str(error).splitlines()[0][:200]
    return Problem(
        UNREADABLE, f"this is not a whole Parquet file: {reason}", url, help="was the upload cut short? copy it again"
    )


def _is_bomb(total: float, rows: int, stored: int) -> bool:
    """Gigabytes out of nothing: much, in rows larger than any prompt, and stored in a two-hundredth of it.

    A column that says the same 500 characters a million times is none: its rows are small.
    """
    return total > 64 << 20 and total > (rows * 64 << 10) and total > 200 * stored


def expanded(array: pa.Array) -> tuple[int, int]:
    """How many bytes of text an array holds once its dictionaries are written out, and the longest single one."""
    kind = array.type
    if pt.is_dictionary(kind):
        return _expanded_dictionary(array)
    if pt.is_struct(kind):
        return _sum(expanded(inner) for inner in array.flatten())
    if pt.is_map(kind):
        return _sum((expanded(array.keys), expanded(array.items)))
    if pt.is_nested(kind):
        return expanded(array.flatten())
    if len(array) and (_is_text(kind)):
        lengths = pc.binary_length(array)
        return pc.sum(lengths).as_py() or 0, pc.max(lengths).as_py() or 0
    return 0, 0


def longest_entry(array: pa.Array) -> int:
    """The longest text in any dictionary of the array, used or not."""
    kind = array.type
    if pt.is_dictionary(kind):
        return expanded(array.dictionary)[1]
    if pt.is_struct(kind):
        return sum(longest_entry(inner) for inner in array.flatten())
    if pt.is_map(kind):
        return longest_entry(array.keys) + longest_entry(array.items)
    return longest_entry(array.flatten()) if pt.is_nested(kind) else 0


def _expanded_dictionary(array: pa.DictionaryArray) -> tuple[int, int]:
    if not _is_text(array.type.value_type) or not len(array.dictionary):
        return 0, 0
    lengths = pc.fill_null(pc.binary_length(array.dictionary), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    indices = array.indices.drop_null().to_numpy(zero_copy_only=False)
    if not len(indices):
        return 0, 0
    each = lengths[indices]
    return int(each.sum()), int(each.max())


def _is_text(kind: pa.DataType) -> bool:
    return bool(pt.is_string(kind) or pt.is_large_string(kind) or pt.is_binary(kind) or pt.is_large_binary(kind))


def _sum(sizes: Iterator[tuple[int, int]] | tuple[tuple[int, int], ...]) -> tuple[int, int]:
    listed = list(sizes)
    return sum(size[0] for size in listed), max((size[1] for size in listed), default=0)
