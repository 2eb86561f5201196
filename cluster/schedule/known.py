"""Known: the rows that earlier slots of a schedule have committed, as hashes, in parts of which one is read at a time.

`known/<slot>/<part>-of-<parts>-<rows>.parquet` has two hashes of 16 bytes a row: of its id, and of all that steers its
images. A part holds the ids whose hash begins in a range, so that any number of parts can be read out of any other.
"""

import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from actors.storage.bucket import Bucket, Fence

PART_ROWS = 1 << 19
"""Known at once: as a dictionary of Python's some 120 MB."""
MOST_SLOTS = 64
"""Above it their files are made into one set: each costs a request for every slot after it."""
RECORD = np.dtype([("row", "<i8"), ("id", "V16"), ("content", "V16")])
SCHEMA = pa.schema([("row", pa.int64()), ("id", pa.binary(16)), ("content", pa.binary(16))])
_NAME = re.compile(r"^(?P<place>.+/(?P<slot>[^/]+))/(?P<part>\d{4})-of-(?P<parts>\d{4})-(?P<rows>\d+)\.parquet$")
Records = NDArray[np.void]


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of hashes."""

    key: str
    slot: str
    part: int
    parts: int
    rows: int

    def meets(self, part: int, parts: int) -> bool:
        """Whether it may hold an id of this part."""
        return self.part * parts < (part + 1) * self.parts and part * self.parts < (self.part + 1) * parts


class Known:
    """Of one schedule, in its ledger."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._entries = list_entries(bucket, "known/")

    @property
    def rows(self) -> int:
        """About: a row that was made again counts twice."""
        return sum(entry.rows for entry in self._entries)

    def read(self, part: int, parts: int) -> dict[bytes, bytes]:
        """The content that was last known of each id of this part."""
        found: dict[bytes, bytes] = {}
        for entry in self._entries:
            if entry.meets(part, parts):
                records = get_records(self._bucket, entry.key)
                mine = records[part_of(records, parts) == part]
                found.update(zip(mine["id"].tolist(), mine["content"].tolist(), strict=True))
        return found

    def add(self, slot: str, part: int, parts: int, records: Records, fence: Fence) -> None:
        """What a slot has committed. Done twice it is the same."""
        put_records(self._bucket, f"known/{slot}", part, parts, records, fence)

    def compact(self, fence: Fence) -> None:
        """Make one set of files of many. Whoever is stopped half-way leaves some rows in two files, as they are."""
        if len({entry.slot for entry in self._entries}) <= MOST_SLOTS:
            return
        parts = parts_for(self.rows)
        newest = max(entry.slot for entry in self._entries)
        for part in range(parts):
            known = self.read(part, parts)
            records = np.zeros(len(known), RECORD)
            records["id"], records["content"] = _voids(known.keys()), _voids(known.values())
            put_records(self._bucket, f"known/{newest}~", part, parts, records, fence)  # which sorts right after it
        for entry in self._entries:
            fence()
            self._bucket.delete(entry.key)


def parts_for(rows: int) -> int:
    """Into how many parts so many rows are divided: a power of two, so that they nest."""
    return min(4096, 1 << max(0, -(-rows // PART_ROWS) - 1).bit_length())


def part_of(records: Records, parts: int) -> NDArray[np.int64]:
    """The part of each record, by the first four bytes of its id's hash."""
    ids = np.ascontiguousarray(records["id"]).view(">u4").reshape(-1, 4)
    return (ids[:, 0].astype(np.uint64) * np.uint64(parts) >> np.uint64(32)).astype(np.int64)


def list_entries(bucket: Bucket, prefix: str) -> list[Entry]:
    """The files of hashes there, the oldest slot first."""
    matches = ((info.key, _NAME.match(info.key)) for info in bucket.list(prefix))
    return [Entry(key, m["slot"], int(m["part"]), int(m["parts"]), int(m["rows"])) for key, m in matches if m]


def get_records(bucket: Bucket, key: str) -> Records:
    """The hashes in a file."""
    table = pq.read_table(pa.BufferReader(bucket.get(key)))
    records = np.zeros(table.num_rows, RECORD)
    records["row"] = table["row"].to_numpy()
    for name in ("id", "content"):
        records[name] = _voids(table[name].to_pylist())
    return records


def put_records(bucket: Bucket, place: str, part: int, parts: int, records: Records, fence: Fence) -> None:
    """Write a part of a slot, if there is anything in it."""
    if not len(records):
        return
    hashes = {name: pa.array(records[name].tolist(), pa.binary(16)) for name in ("id", "content")}
    table = pa.table({"row": records["row"], **hashes}, schema=SCHEMA)
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="none", use_dictionary=False)  # hashes are as long as they look
    bucket.put(f"{place}/{part:04d}-of-{parts:04d}-{len(records)}.parquet", sink.getvalue(), fence=fence)


def scatter(records: Iterator[Records], parts: int) -> Iterator[tuple[int, Records]]:
    """The records by their parts, block by block."""
    for block in records:
        of = part_of(block, parts)
        for part in np.unique(of):
            yield int(part), block[of == part]


def _voids(values: Iterable[bytes]) -> NDArray[np.void]:
    return np.frombuffer(b"".join(values), "V16")
