"""Retry: which images of an output are worth another attempt."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from actors import metadata
from actors.errors import Problem
from actors.parents import ORPHANED, parent_key
from actors.storage.bucket import Bucket, ObjectInfo
from jobs.catalog import list_committed
from jobs.readers import read_all

_OF_THE_ROW = re.compile(r"LM10\d\d")
IN_VAIN = "the rows of the table are at fault: put them, mended, into a table and an output of their own"
"""What is to be done about images that fail again and again."""


@dataclass(frozen=True, slots=True)
class Rework:
    """Images of one shard that are to be made again, and the attempt whose rows they replace."""

    keys: frozenset[str]
    attempt: str


@dataclass(frozen=True, slots=True)
class Failures:
    """The failed images of an output that a retry was asked for."""

    rework: Mapping[int, Rework]
    """Those worth another attempt, by shard."""
    bad_rows: Mapping[str, int]
    """How many are not, by error code."""


def is_lasting(code: str) -> bool:
    """Whether the row itself is at fault. The table is part of the promise: such a row fails in the same way again."""
    return _OF_THE_ROW.fullmatch(code) is not None


def find_failures(bucket: Bucket, only: str) -> Failures:
    """The failed rows of every committed shard; `only` is `failed`, or the error code that they must have.

    Images of a later stage that failed with their parents go the way of these: into vain, or along; those whose parents
    a retry has made since, before it was stopped, go along always. Shards are in the order of their stages, so parents
    come first. Memory grows with the rows that failed, not with the job.
    """
    rework: dict[int, Rework] = {}
    bad_rows: Counter[str] = Counter()
    lost: set[str] = set()
    left: set[str] = set()  # failed, and not asked for
    for shard, attempt, failed in read_all(list_committed(bucket), lambda info: _read(bucket, info)):
        keys: set[str] = set()
        for key, code in failed:
            parent = parent_key(key) if code == ORPHANED else None
            wanted = only in ("failed", code)
            if is_lasting(code) or parent in lost:
                lost.add(key)
                bad_rows.update([code] if wanted else [])
            elif wanted or (parent and parent not in left):
                keys.add(key)
            else:
                left.add(key)
        if keys:
            rework[shard] = Rework(frozenset(keys), attempt)
    return Failures(rework, bad_rows)


def in_vain(failures: Failures, url: str) -> Problem:
    """What to do about images that no retry can make."""
    listed = ", ".join(f"{number:,} for {code}" for code, number in sorted(failures.bad_rows.items()))
    count = sum(failures.bad_rows.values())
    images = "1 failed image" if count == 1 else f"{count:,} failed images"
    return Problem(
        "LM1615",
        f"{images} cannot be made by trying again, as the rows of the table are at fault: {listed}",
        where=url,
        help="put the rows, mended, into a table of their own, and run that with an output of its own",
        severity="note",
    )


def _read(bucket: Bucket, info: ObjectInfo) -> tuple[int, str, list[tuple[str, str]]]:
    """The shard, its attempt, and key and error code of each of its failed rows."""
    shard = metadata.read_metadata(bucket.get(info.key))
    rows = shard.table.select(["key", "status", "error_code"]).to_pylist()
    failed = [(row["key"], row["error_code"] or "") for row in rows if row["status"] == "failed"]
    return int(PurePosixPath(info.key).stem), shard.header.attempt, failed
