"""Journal: the log lines of an output, in the order of their time, and those that are new since the last look."""

import json
from pathlib import PurePosixPath
from typing import Any

from actors.errors import NotFound
from actors.storage.bucket import Bucket


class Journal:
    """`logs/*.jsonl` of driver and workers. Each file grows, and is followed by another."""

    def __init__(self, bucket: Bucket, role: str = "") -> None:
        """`role`: `driver` or the begin of a worker's name; all where it is empty."""
        self._bucket = bucket
        self._role = role
        self._told: dict[str, int] = {}
        self._sizes: dict[str, int] = {}

    def new_lines(self) -> list[dict[str, Any]]:
        """What has been written since the last call: `time`, `level`, `logger`, `message`, and in which `log`.

        Raises `StorageError`; nothing counts as told then.
        """
        found, told, sizes = [], {}, {}
        for info in self._bucket.list(f"logs/{self._role}"):
            if self._sizes.get(info.key) != info.size:
                lines = self._lines(info.key)
                told[info.key], sizes[info.key] = len(lines), info.size
                new, log = lines[self._told.get(info.key, 0) :], PurePosixPath(info.key).stem
                found += [{**json.loads(line), "log": log} for line in new]
        self._told |= told
        self._sizes |= sizes
        return sorted(found, key=lambda line: str(line["time"]))

    def _lines(self, key: str) -> list[str]:
        try:
            return self._bucket.get(key).decode(errors="replace").splitlines()
        except NotFound:
            return []
