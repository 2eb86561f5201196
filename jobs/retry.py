"""Retry: which images of an output are worth another attempt."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from actors import metadata
from actors.storage.bucket import Bucket, ObjectInfo
from jobs.catalog import PREFIX
from jobs.readers import read_all


@dataclass(frozen=True, slots=True)
class Rework:
    """Images of one shard that are to be made again, and the attempt whose rows they replace."""

    keys: frozenset[str]
    attempt: str


def find_rework(bucket: Bucket, only: str) -> Mapping[int, Rework]:
    """The failed rows of every committed shard, by shard; `only` is `failed`, or the error code that they must have.

    Memory grows with the rows that failed, not with the job.
    """
    found = read_all(bucket.list(PREFIX), lambda info: _read(bucket, info, only))
    return {shard: rework for shard, rework in found if rework.keys}


def _read(bucket: Bucket, info: ObjectInfo, only: str) -> tuple[int, Rework]:
    shard = metadata.read_metadata(bucket.get(info.key))
    rows = shard.table.select(["key", "status", "error_code"]).to_pylist()
    keys = (row["key"] for row in rows if row["status"] == "failed" and only in ("failed", row["error_code"]))
    return int(PurePosixPath(info.key).stem), Rework(frozenset(keys), shard.header.attempt)
