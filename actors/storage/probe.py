"""Whether a store honours conditional writes: asked by racing for them, since several accept the header and ignore it.

Measured: Ceph 16 and moto let one of eight racing writers win, in every round. rclone lets all of them. Swift answers
412 to one who asks alone, and lets several win in three of four races.
"""

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Literal

from actors.errors import PreconditionFailed
from actors.storage.bucket import Bucket

StoreClass = Literal["strong", "racy", "ignoring"]
"""strong: one of many wins, always. racy: mostly. ignoring: everybody does."""

CLIENTS = 8
ROUNDS = 20
"""A store that lets several win in only one race of seven is found out with 95 % probability (1 - (6/7)^20)."""


def probe(bucket: Bucket) -> StoreClass:
    """Class the store by a few writes to `leases/probe-*`, which are removed again."""
    stem = f"leases/probe-{uuid.uuid4().hex}"
    keys = [f"{stem}-{number}" for number in range(ROUNDS + 1)]
    try:
        if _creates_twice(bucket, keys[0]):
            return "ignoring"
        with ThreadPoolExecutor(CLIENTS, thread_name_prefix="probe") as clients:
            winners = [_race(bucket, key, clients) for key in keys[1:]]
        if min(winners) > 1:
            return "ignoring"
        return "strong" if max(winners) == 1 and _replaces_what_it_read(bucket, keys[0]) else "racy"
    finally:
        for key in keys:
            bucket.delete(key)


def _creates_twice(bucket: Bucket, key: str) -> bool:
    _wins(lambda: bucket.put(key, b"first", if_absent=True))
    return _wins(lambda: bucket.put(key, b"second", if_absent=True))


def _race(bucket: Bucket, key: str, clients: ThreadPoolExecutor) -> int:
    """How many of the clients that create one key at once may think that they did."""
    start = Barrier(CLIENTS)

    def contend(number: int) -> bool:
        start.wait()
        return _wins(lambda: bucket.put(key, str(number).encode(), if_absent=True))

    won = {number for number, wins in enumerate(clients.map(contend, range(CLIENTS))) if wins}
    won.add(int(bucket.get(key)))  # a winner whose first reply was lost is told that it lost, to itself
    return len(won)


def _replaces_what_it_read(bucket: Bucket, key: str) -> bool:
    """Whether `if_match` lets the current etag through, and an old one not."""
    old = bucket.put(key, b"old").etag
    return _wins(lambda: bucket.put(key, b"newer", if_match=old)) and not _wins(
        lambda: bucket.put(key, b"stale", if_match=old)
    )


def _wins(write: Callable[[], object]) -> bool:
    try:
        write()
    except PreconditionFailed:
        return False
    return True
