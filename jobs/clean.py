"""Clean: what no reader will ever read again, found and removed under the lease."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import PurePosixPath

from actors import crash, metadata
from actors.errors import NotFound
from actors.metadata import ShardHeader
from actors.storage.bucket import Bucket, Fence, ObjectInfo, PendingUpload
from jobs.claims import list_claims
from jobs.manifest import Manifest

OLD = timedelta(days=1)
"""Younger leftovers may belong to a worker that is frozen, or to an upload whose reply is still on its way."""
_ATTEMPT = re.compile(r"^images/(?P<shard>\d{9})-(?P<attempt>[0-9a-z]+)(?=[./])")


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something that can go, and why."""

    key: str
    bytes: int
    reason: str
    upload: PendingUpload | None = None


def find_leftovers(bucket: Bucket, manifest: Manifest, older_than: timedelta = OLD) -> Iterator[Leftover]:
    """Files of attempts that were not committed or have been replaced, old leases, and uploads nobody will finish."""
    before = bucket.now() - older_than
    yield from _orphans(bucket, before)
    yield from old_leases(bucket, before)
    yield from _unused_prompts(bucket, manifest, before)
    for upload in bucket.pending_uploads():
        if upload.initiated < before:
            yield Leftover(upload.key, 0, "an upload that was begun and never finished", upload)


def remove(bucket: Bucket, leftover: Leftover, fence: Fence) -> None:
    """Remove it. The caller holds the lease, which `fence` asks."""
    crash.point("clean.remove")
    fence()
    if leftover.upload is not None:
        bucket.abort_upload(leftover.upload)
    else:
        bucket.delete(leftover.key)


def data_files(bucket: Bucket) -> Iterator[tuple[str, list[ObjectInfo]]]:
    """All data files, shard by shard, by the names of the shards; those of no shard under an empty name."""
    for shard_name, infos in groupby(bucket.list("images/"), key=_shard_name):
        yield shard_name, list(infos)


def unreferenced(infos: Iterable[ObjectInfo], header: ShardHeader | None) -> list[ObjectInfo]:
    """Those of a shard's data files that its metadata does not name."""
    named = {file.file for file in header.files} if header else set()
    return [info for info in infos if info.key not in named]


def old_leases(bucket: Bucket, before: datetime) -> Iterator[Leftover]:
    """Those of earlier runs."""
    *_, newest = (None, *list_claims(bucket))  # it says which epoch is the next, and is never removed
    for info in bucket.list("leases/"):
        if info.modified < before and info.key != (newest.key if newest else None):
            yield Leftover(info.key, info.size, "the lease of an earlier run")


def _orphans(bucket: Bucket, before: datetime) -> Iterator[Leftover]:
    for shard_name, infos in data_files(bucket):
        old = [info for info in infos if info.modified < before]
        for info in unreferenced(old, _header(bucket, shard_name)) if old else ():
            yield Leftover(info.key, info.size, "no committed shard names it")


def _header(bucket: Bucket, shard_name: str) -> ShardHeader | None:
    try:
        return metadata.read_header(bucket.get(f"metadata/{shard_name}.parquet"))
    except NotFound:
        return None


def _unused_prompts(bucket: Bucket, manifest: Manifest, before: datetime) -> Iterator[Leftover]:
    used = {PurePosixPath(file.url).name for file in manifest.table.files}
    _, ours, source = manifest.table.identity.uri.rpartition("/prompts/")  # of a table that a submission uploaded
    for info in bucket.list("prompts/"):
        is_source = bool(ours) and info.key.startswith(f"prompts/{source}")
        if info.modified < before and PurePosixPath(info.key).name not in used and not is_source:
            yield Leftover(info.key, info.size, "a rewritten table that the manifest does not name")


def _shard_name(info: ObjectInfo) -> str:
    match = _ATTEMPT.match(info.key)
    return match["shard"] if match else ""
