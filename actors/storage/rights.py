"""Rights: what a store lets us do, found out by doing it, under a name that no run ever looks at.

`leases/probe-*` is passed over by whoever reads claims, and what a broken-off trial leaves there goes with `clean`.
"""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

from botocore.exceptions import ClientError

from actors.errors import Problem, StorageError
from actors.storage.bucket import Bucket
from actors.storage.s3 import S3Bucket
from actors.storage.s3client import sha256_header
from actors.storage.upload import PART_BYTES

Checksums = Literal["checked", "ignored", "refused"]
"""checked: an object that does not match its SHA-256 is refused. ignored: it is taken. refused: so is any checksum."""
WORD = b"lightmill was here"


@dataclass(frozen=True, slots=True)
class Trial:
    """One right, and why it is not ours, if it is not."""

    right: str
    refusal: StorageError | None


def try_rights(bucket: Bucket) -> Iterator[Trial]:
    """Write, read, list, write in parts and delete. After a write that failed nothing else is tried."""
    key = f"leases/probe-{uuid.uuid4().hex}"
    wrote = _tried("write", lambda: bucket.put(key, WORD))
    yield wrote
    if wrote.refusal:
        return
    yield _tried("read", lambda: _require(bucket.get(key) == WORD, f"{key} is not what was written"))
    yield _tried("list", lambda: _require(any(info.key == key for info in bucket.list(key)), f"{key} is not listed"))
    yield _tried("write in parts", lambda: _in_parts(bucket, f"{key}-parts"))
    yield _tried("list unfinished uploads", lambda: list(bucket.pending_uploads()))
    yield _tried("delete", lambda: _delete(bucket, key, f"{key}-parts"))


def try_checksums(bucket: Bucket) -> Checksums | None:
    """What the store makes of an object that is not what its SHA-256 says. None of a folder, which knows of none."""
    if not isinstance(bucket, S3Bucket):
        return None
    key = f"leases/probe-{uuid.uuid4().hex}"
    bucket.put(key, WORD)  # which notes a store that takes no checksum at all
    try:
        if not bucket.client.takes_checksums:
            return "refused"
        bucket.client.once("put_object", Key=bucket.name(key), Body=WORD, **sha256_header(sha256(b"something else")))
    except ClientError:
        return "checked"
    finally:
        bucket.delete(key)
    return "ignored"


def _tried(right: str, act: Callable[[], object]) -> Trial:
    try:
        act()
    except StorageError as error:
        return Trial(right, error)
    return Trial(right, None)


def _in_parts(bucket: Bucket, key: str) -> None:
    """One upload that is completed, and one that is given up."""
    for completed in (True, False):
        with bucket.upload(key) as upload:
            upload.write(bytes(PART_BYTES + 1))
            if completed:
                upload.complete()


def _delete(bucket: Bucket, *keys: str) -> None:
    for key in keys:
        bucket.delete(key)
        _require(bucket.head(key) is None, f"{key} is still there after it was deleted")


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise StorageError(Problem("LM1309", otherwise, help="look at the store: a cache or gateway may be in the way"))
