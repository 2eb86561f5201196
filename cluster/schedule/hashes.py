"""Hashes of rows: in a ledger as Parquet files, in any order; on the local disk in parts that fit in memory.

A row has two of 16 bytes: of its id, and of all that steers its images. A part has the ids whose hashes begin alike.
"""

import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from actors.storage.bucket import Bucket, Fence
from actors.storage.mishaps import explained

PART_ROWS = 1 << 18
"""In a part, in a file of the ledger, and what is spread over the parts at once: 10 MB, of which there are several
copies in memory while one part is looked up in another."""
MOST_PARTS = 1 << 14
HASH = pa.binary(16)
RECORD = np.dtype([("row", "<i8"), ("id", "V16"), ("content", "V16")])
SCHEMA = pa.schema([("row", pa.int64()), ("id", HASH), ("content", HASH)])
Records = NDArray[np.void]
_NAME = re.compile(r"/(?P<slot>[^/]+)/[^/]+-(?P<rows>\d+)\.parquet$")


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of hashes in a ledger."""

    key: str
    slot: str
    rows: int


class Parts:
    """Records on the local disk, as files without a header: each of the parts has all there is of its ids."""

    def __init__(self, folder: Path, rows: int) -> None:
        """For about so many rows. The folder is made."""
        self.count = parts_for(rows)
        self._folder = folder
        folder.mkdir()

    def spread(self, blocks: Iterable[Records]) -> None:
        """Add these. Within a part they stay in their order. Raises `StorageError` where the disk is full."""
        for block in gathered(blocks):
            part = part_of(block, self.count)
            ends = np.cumsum(np.bincount(part, minlength=self.count))
            pieces = np.split(block[np.argsort(part, kind="stable")], ends[:-1])
            for number, piece in enumerate(pieces):
                if len(piece):
                    self._append(number, piece)

    def read(self, part: int) -> Iterator[Records]:
        """A part, `PART_ROWS` at a time: it has more of them where a table says the same again and again."""
        path = self._path(part)
        size = path.stat().st_size if path.exists() else 0
        for offset in range(0, size, PART_ROWS * RECORD.itemsize):
            yield np.fromfile(path, RECORD, PART_ROWS, offset=offset)

    def latest(self, part: int) -> Records:
        """Of each id of a part the record that was added last."""
        found = np.zeros(0, RECORD)
        for block in self.read(part):
            found = _last_of_each(np.concatenate([found, block]))
        return found

    def _append(self, part: int, records: Records) -> None:
        path = self._path(part)
        with explained(path, "write"), path.open("ab") as file:  # and not kept open: there may be thousands
            file.write(records.tobytes())

    def _path(self, part: int) -> Path:
        return self._folder / f"{part:04d}"


def parts_for(rows: int) -> int:
    """Into how many parts so many rows are divided."""
    return min(MOST_PARTS, 1 << max(0, -(-rows // PART_ROWS) - 1).bit_length())


def part_of(records: Records, parts: int) -> NDArray[np.uint16]:
    """The part of each record, by the first four bytes of its id's hash."""
    ids = np.ascontiguousarray(records["id"]).view(">u4").reshape(-1, 4)
    return (ids[:, 0].astype(np.uint64) * np.uint64(parts) >> np.uint64(32)).astype(np.uint16)


def gathered(blocks: Iterable[Records]) -> Iterator[Records]:
    """The same in blocks of at least `PART_ROWS` records, and what is left."""
    waiting, rows = list[Records](), 0
    for block in blocks:
        waiting.append(block)
        rows += len(block)
        if rows >= PART_ROWS:
            yield np.concatenate(waiting)
            waiting, rows = [], 0
    if rows:
        yield np.concatenate(waiting)


def list_entries(bucket: Bucket, prefix: str) -> list[Entry]:
    """The files of hashes there, the oldest slot first."""
    matches = ((info.key, _NAME.search(info.key)) for info in bucket.list(prefix))
    return [Entry(key, match["slot"], int(match["rows"])) for key, match in matches if match]


def get_records(bucket: Bucket, key: str) -> Records:
    """The hashes in a file."""
    table = pq.read_table(pa.BufferReader(bucket.get(key)), use_threads=False).combine_chunks()
    records = np.zeros(table.num_rows, RECORD)
    records["row"] = table["row"].to_numpy()
    for name in ("id", "content"):
        for column in table[name].chunks:  # one, or none
            records[name] = np.frombuffer(column.buffers()[1], "V16", len(column), column.offset * 16)
    return records


def put_records(bucket: Bucket, place: str, blocks: Iterable[Records], fence: Fence) -> None:
    """Write hashes, into as many files as they need: none where there are none."""
    for number, records in enumerate(gathered(blocks)):
        table = pa.table([records["row"], array(records["id"]), array(records["content"])], schema=SCHEMA)
        sink = io.BytesIO()
        packed = {"row": "DELTA_BINARY_PACKED"}  # hashes are as long as they look
        pq.write_table(table, sink, compression="none", use_dictionary=False, column_encoding=packed)
        bucket.put(f"{place}/{number:06d}-{len(records)}.parquet", sink.getvalue(), fence=fence)


def array(hashes: NDArray[np.void]) -> pa.FixedSizeBinaryArray:
    """As Arrow has them."""
    data = np.ascontiguousarray(hashes).view(np.uint8)
    return pa.FixedSizeBinaryArray.from_buffers(HASH, len(hashes), [None, pa.py_buffer(data)])


def _last_of_each(records: Records) -> Records:
    backwards = records[::-1]
    ids = array(backwards["id"])
    first = pc.index_in(ids, value_set=ids).to_numpy()
    last: Records = backwards[first == np.arange(len(records))]
    return last
