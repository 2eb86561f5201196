"""Index: every file of a finished job, so that readers never need to list the store.

`index.parquet` has a row per data file and one per metadata file; `shards.txt` names the committed tars or Parquet
files, one a line.
Both are written when the job is complete, under the lease, and removed before `retry` changes anything.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import zip_longest
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from actors import crash, metadata
from actors.errors import NotFound
from actors.records import CONTAINERS, SCHEMA_VERSION
from actors.settings import UNKNOWN
from actors.storage.bucket import Bucket, Fence, ObjectInfo
from actors.storage.outlet import Outlet
from jobs.catalog import list_committed
from jobs.readers import in_groups, read_all

KEY = "index.parquet"
SHARDS_KEY = "shards.txt"
SCHEMA = pa.schema(
    [
        ("shard", pa.int64()),
        ("kind", pa.string()),
        ("file", pa.string()),
        ("rows", pa.int64()),
        ("bytes", pa.int64()),
        ("sha256", pa.string()),
        ("attempt", pa.string()),
        ("etag", pa.string()),
    ]
)

DAMAGED = (pa.ArrowException, OSError, KeyError, TypeError, ValueError)
"""What a bit that flipped in an index comes out as. Its pages carry checksums, its footer does not: there it may be the
name of a column that is another."""


@dataclass(frozen=True, slots=True)
class Totals:
    """What a finished job came to. Counts are images."""

    images: int
    ok: int
    failed: int
    filtered: int
    shards: int
    data_files: int
    data_bytes: int
    errors: Mapping[str, int]
    """Rows without an image, by their error code, the most frequent first."""
    tiers: Mapping[str, int] = field(default_factory=dict)
    """Images by the content tier of their model."""
    flagged: int = 0
    """What safety checkers flagged, whatever became of it."""

    @property
    def failed_share(self) -> float:
        """Of all promised images, how many are failed rows."""
        return self.failed / self.images if self.images else 0.0


@dataclass(frozen=True, slots=True)
class _Entry:
    rows: list[dict[str, Any]]
    statuses: Counter[str]
    errors: Counter[str]
    tiers: Counter[str]
    flagged: int


def build(bucket: Bucket, fence: Fence, publish: Callable[[Totals], None]) -> Totals:
    """Read every shard's metadata and write the index. The caller holds the lease, which `fence` asks, and no worker
    of its own lives.

    `publish` does what else a finished job needs: the index comes last, so that where it is, all is.
    """
    statuses: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    tiers: Counter[str] = Counter()
    shards = files = data_bytes = flagged = 0
    with (
        bucket.upload(SHARDS_KEY) as listing,
        bucket.upload(KEY) as upload,
        pq.ParquetWriter(Outlet(upload.write), SCHEMA, compression="zstd", write_page_checksum=True) as writer,
    ):
        for entries in in_groups(read_all(list_committed(bucket), lambda info: _entry(bucket, info))):
            rows = [row for entry in entries for row in entry.rows]
            writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
            data = [row for row in rows if row["kind"] == "data"]
            listing.write("".join(f"{row['file']}\n" for row in data if row["file"].endswith(CONTAINERS)).encode())
            shards += len(entries)
            files += len(data)
            data_bytes += sum(row["bytes"] for row in data)
            for entry in entries:
                statuses.update(entry.statuses)
                errors.update(entry.errors)
                tiers.update(entry.tiers)
                flagged += entry.flagged
        totals = Totals(
            images=statuses.total(),
            ok=statuses["ok"],
            failed=statuses["failed"],
            filtered=statuses["filtered"],
            shards=shards,
            data_files=files,
            data_bytes=data_bytes,
            errors=dict(errors.most_common()),
            tiers=dict(tiers.most_common()),
            flagged=flagged,
        )
        fence()
        listed = listing.complete()
        words = {"totals": json.dumps(asdict(totals)), "shards": listed.etag}
        footer = {"schema_version": str(SCHEMA_VERSION), **words, "sha256": _digest(words)}
        writer.add_key_value_metadata(footer)
        writer.close()
        publish(totals)
        crash.point("index.put")
        fence()
        upload.complete()
    crash.point("index.done")
    return totals


def remove(bucket: Bucket, fence: Fence) -> None:
    """Take the index away before what it describes is changed."""
    for key in (KEY, SHARDS_KEY):
        fence()
        bucket.delete(key)
    crash.point("index.removed")


def read_totals(bucket: Bucket) -> Totals | None:
    """The totals of a finished job, if its index is there and describes exactly the metadata that can be listed.

    And if `shards.txt` was written with it, and not by a driver that was frozen right before, and thawed since.
    """
    try:
        with bucket.open(KEY) as file:
            index = pq.ParquetFile(file, page_checksum_verification=True)
            found = ((info.key, info.etag) for info in list_committed(bucket))
            footer = {name.decode(): value.decode() for name, value in index.metadata.metadata.items()}
            listed = bucket.head(SHARDS_KEY)
            words = {"totals": footer["totals"], "shards": footer["shards"]}
            if listed is None or footer["shards"] != listed.etag or footer["sha256"] != _digest(words):
                return None
            if not _same(_described(index, "metadata", "file", "etag"), found):
                return None
            return Totals(**json.loads(footer["totals"]))
    except (NotFound, *DAMAGED):  # it can be made again
        return None


def _digest(words: Mapping[str, str]) -> str:
    """Of what the footer says, which no checksum of Parquet's covers."""
    return hashlib.sha256(json.dumps(words, sort_keys=True).encode()).hexdigest()


def is_current(bucket: Bucket) -> bool:
    """Whether the index is there and names exactly the metadata that can be listed.

    By size: the etags of a copy are its own. What a file of the same size holds, its SHA-256 tells.
    """
    try:
        with bucket.open(KEY) as file:
            index = pq.ParquetFile(file, page_checksum_verification=True)
            found = ((info.key, info.size) for info in list_committed(bucket))
            named = (file for file in _described(index, "data", "file") if file[0].endswith(CONTAINERS))
            listed = ((file,) for file in containers(bucket))
            return _same(_described(index, "metadata", "file", "bytes"), found) and _same(named, listed)
    except (NotFound, *DAMAGED):
        return False


def metadata_hashes(bucket: Bucket) -> dict[int, bytes]:
    """The SHA-256 of each shard's metadata, as the index has it."""
    with bucket.open(KEY) as file:
        described = _described(pq.ParquetFile(file), "metadata", "shard", "sha256")
        return {shard: bytes.fromhex(sha256) for shard, sha256 in described}


def containers(bucket: Bucket) -> list[str]:
    """The committed tars or Parquet files of a finished job."""
    return bucket.get(SHARDS_KEY).decode().splitlines()


def _described(index: pq.ParquetFile, kind: str, *columns: str) -> Iterator[tuple[Any, ...]]:
    for batch in index.iter_batches(columns=["kind", *columns]):
        for row in batch.to_pylist():
            if row["kind"] == kind:
                yield tuple(row[column] for column in columns)


def _same(described: Iterable[tuple[Any, ...]], found: Iterable[tuple[Any, ...]]) -> bool:
    return all(one == other for one, other in zip_longest(described, found))


def _entry(bucket: Bucket, info: ObjectInfo) -> _Entry:
    data = bucket.get(info.key)
    shard = metadata.read_metadata(data)
    header = shard.header
    own = {
        "kind": "metadata",
        "file": info.key,
        "rows": shard.table.num_rows,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "etag": info.etag,
    }
    errors = Counter(code for code in shard.table["error_code"].to_pylist() if code)
    rows = [own, *({"kind": "data", **asdict(file)} for file in header.files)]
    common = {"shard": header.shard.index, "attempt": header.attempt}
    statuses = Counter(shard.table["status"].to_pylist())
    tier = shard.table["model_tier"][0].as_py() or UNKNOWN  # a shard is of one model
    flagged = shard.table["nsfw"].to_pylist().count(True)
    tiers = Counter({tier: statuses["ok"]} if statuses["ok"] else {})
    return _Entry([{**common, **row} for row in rows], statuses, errors, tiers, flagged)
