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
        """What has been written since the last call: `time`, `level`, `logger`, `message`, and in which `log`."""
        found = []
        for info in self._bucket.list(f"logs/{self._role}"):
            if self._sizes.get(info.key) == info.size:
                continue
            self._sizes[info.key] = info.size
            found += self._new(info.key)
        return sorted(found, key=lambda line: str(line["time"]))

    def _new(self, key: str) -> list[dict[str, Any]]:
        try:
            lines = self._bucket.get(key).decode(errors="replace").splitlines()
        except NotFound:
            return []
        new = lines[self._told.get(key, 0) :]
        self._told[key] = len(lines)
        return [{**json.loads(line), "log": PurePosixPath(key).stem} for line in new]
