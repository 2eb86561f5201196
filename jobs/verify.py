"""Verify: read an output back and compare it with what was promised, byte by byte."""

import hashlib
import math
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from actors import metadata
from actors.errors import NotFound, Problem, RunError
from actors.metadata import ShardMetadata
from actors.records import SAMPLE_SCHEMA, Shard, sample_key
from actors.storage.bucket import Bucket, ObjectInfo
from jobs import index
from jobs.catalog import Catalog
from jobs.clean import data_files, unreferenced
from jobs.containers import file_faults
from jobs.lineage import parent_faults
from jobs.manifest import Manifest
from jobs.readers import read_all

READERS = 8

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found in one shard. `faults` are unsound; `orphans` are files that nothing names, and no fault."""

    faults: tuple[Problem, ...] = ()
    orphans: tuple[str, ...] = ()
    images: int = 0
    bytes: int = 0
    rows: tuple[int, int] | None = None
    """The first and the last row of the table that it is about."""


def verify(bucket: Bucket, manifest: Manifest, sample: float = 1.0, seed: int | None = None) -> Iterator[Checked]:
    """Check every shard, or that share of them: promised rows, files, hashes, offsets, schema.

    Equal seeds choose equal shards; without one they are others each time.

    Shards that are not committed, and a missing or outdated index, are faults however small the sample is.
    """
    plan = manifest.plan
    catalog = Catalog.read(bucket, plan.shards)
    hashes: Mapping[int, bytes] = {}
    if not catalog.complete:
        yield Checked((_incomplete(bucket, plan.shards, catalog),))
    elif not index.is_current(bucket):
        yield Checked((_fault("LM1807", "index.parquet is missing, damaged, or not of these shards", index.KEY),))
    else:
        hashes = index.metadata_hashes(bucket)
    chosen = random.Random(seed).sample(range(plan.shards), math.ceil(sample * plan.shards))  # noqa: S311 - no secret
    shards = (plan.shard(number) for number in sorted(chosen) if number in catalog)
    files = _Files(bucket)
    work = ((shard, files.of(shard), hashes.get(shard.index)) for shard in shards)
    ends: dict[int, int] = {}
    found = read_all(work, lambda item: (item[0], _check(bucket, manifest, *item)), readers=READERS)
    for shard, checked in found:
        yield checked
        yield from _overlap(shard, checked, ends)
    if sample == 1:
        yield Checked(orphans=tuple(files.unclaimed()))


class _Files:
    """The data files in the store, listed once, beside the shards in their order."""

    def __init__(self, bucket: Bucket) -> None:
        self._groups = data_files(bucket)
        self._next = next(self._groups, None)
        self._unclaimed: list[str] = []

    def of(self, shard: Shard) -> list[ObjectInfo]:
        """Those of this shard; no earlier one can be asked for after it."""
        while self._next is not None and self._next[0] < shard.name:
            self._pass_over()
        if self._next is None or self._next[0] != shard.name:
            return []
        infos = self._next[1]
        self._next = next(self._groups, None)
        return infos

    def unclaimed(self) -> list[str]:
        """Those of shards that nobody has asked for."""
        while self._next is not None:
            self._pass_over()
        return self._unclaimed

    def _pass_over(self) -> None:
        assert self._next is not None
        self._unclaimed += [info.key for info in self._next[1]]
        self._next = next(self._groups, None)


def _overlap(shard: Shard, checked: Checked, ends: dict[int, int]) -> Iterator[Checked]:
    """Shards of a lane are about rows of the table that follow each other, also where the table routes them."""
    if checked.rows is not None:
        if checked.rows[0] <= ends.get(shard.lane, -1):
            message = f"row {checked.rows[0]} is in an earlier shard, too"
            yield Checked((_fault("LM1803", message, metadata.key(shard)),))
        ends[shard.lane] = checked.rows[1]


def _check(bucket: Bucket, manifest: Manifest, shard: Shard, infos: list[ObjectInfo], digest: bytes | None) -> Checked:
    key = metadata.key(shard)
    try:
        data = bucket.get(key)
        found = metadata.read_metadata(data)
    except (NotFound, RunError) as error:
        return Checked((_fault("LM1802", f"the metadata cannot be read: {error.problems[0].message}", key),))
    if digest not in (None, hashlib.sha256(data).digest()):
        return Checked((_fault("LM1802", "the metadata is not what it was when the index was written", key),))
    rows = found.table.select([name for name in SAMPLE_SCHEMA.names if name in found.table.column_names]).to_pylist()
    faults = [*_schema_faults(found, shard, key)]
    faults += [] if faults else _row_faults(manifest, found, rows, key)
    if not faults:
        by_file: defaultdict[str, list[Row]] = defaultdict(list)
        for row in rows:
            by_file[row["file"]].append(row)
        for file in found.header.files:
            faults += file_faults(bucket, file, by_file[file.file])
        faults += parent_faults(bucket, manifest.plan, shard, rows)
    orphans = unreferenced(infos, found.header)
    size = sum(file.bytes for file in found.header.files)
    numbers = [row["source_row"] for row in rows] if not faults else []
    span = (min(numbers), max(numbers)) if numbers else None
    return Checked(tuple(faults), tuple(info.key for info in orphans), len(rows), size, span)


def _schema_faults(found: ShardMetadata, shard: Shard, key: str) -> Iterator[Problem]:
    if found.header.shard != shard:
        yield _fault("LM1802", f"it is the metadata of shard {found.header.shard.index}", key)
    for field in SAMPLE_SCHEMA:
        if field.name not in found.table.column_names:
            yield _fault("LM1802", f"the column {field.name} is missing", key)
        elif found.table.schema.field(field.name).type != field.type:
            kind = found.table.schema.field(field.name).type
            yield _fault("LM1802", f"the column {field.name} is {kind}, should be {field.type}", key)


def _row_faults(manifest: Manifest, found: ShardMetadata, rows: list[Row], key: str) -> Iterator[Problem]:
    shard, per_prompt = found.header.shard, manifest.spec.images_per_prompt
    promised = (shard.stop - shard.start) * per_prompt
    keys = [row["key"] for row in rows]
    if len(rows) != promised:
        yield _fault("LM1803", f"{promised} rows are promised, {len(rows)} are there", key)
    if len(set(keys)) != len(keys):
        yield _fault("LM1803", "an image has two rows", key, value=max(keys, key=keys.count))
    routed = manifest.table.routes is not None
    numbers = {row["source_row"] for row in rows} if routed else range(shard.start, shard.stop)
    expected = {sample_key(number, image, shard.lane) for number in numbers for image in range(per_prompt)}
    if missing := sorted(expected - set(keys)):
        yield _fault("LM1803", f"{len(missing)} promised images have no row", key, value=missing[0])
    named = {file.file for file in found.header.files}
    for row in rows:
        if row["file"] not in (named if row["status"] == "ok" else {None}):
            yield _fault("LM1803", f"a row is {row['status']}, and its file is {row['file']}", key, value=row["key"])


def _incomplete(bucket: Bucket, shards: int, catalog: Catalog) -> Problem:
    return Problem(
        "LM1801",
        f"{shards - catalog.committed} of {shards} shards are not committed",
        where=bucket.url,
        value=f"first: {next(catalog.pending(range(shards)))}",
        help="run the same command again: it makes what is missing",
    )


def _fault(code: str, message: str, where: str, value: str = "") -> Problem:
    return Problem(code, message, where=where, value=value)
