"""Catalog: what exists. One bit per shard, so that a million shards take 125 kB."""

import re
from collections.abc import Container, Iterator
from pathlib import PurePosixPath

from actors.storage.bucket import Bucket, ObjectInfo

_FOLDER = "metadata/"
_NAME = re.compile(rf"{_FOLDER}\d{{9,}}\.parquet")


def list_committed(bucket: Bucket) -> Iterator[ObjectInfo]:
    """The metadata of every committed shard, in the order of shards. What else lies there, such as what a desktop
    leaves in each folder that it shows, is nobody's business."""
    return (info for info in bucket.list(_FOLDER) if _NAME.fullmatch(info.key))


class Catalog:
    """Which shards of a job are committed: those whose metadata can be listed, and no others."""

    def __init__(self, shards: int) -> None:
        self.shards = shards
        self.committed = 0
        self._bits = bytearray(-(-shards // 8))

    @classmethod
    def read(cls, bucket: Bucket, shards: int) -> "Catalog":
        """List the output once: a request per 1,000 committed shards, whatever they hold."""
        catalog = cls(shards)
        for info in list_committed(bucket):
            index = int(PurePosixPath(info.key).stem)
            if index < shards:
                catalog.add(index)
        return catalog

    @classmethod
    def all_but(cls, missing: Container[int], shards: int) -> "Catalog":
        """A catalog in which only these are missing."""
        catalog = cls(shards)
        for index in range(shards):
            if index not in missing:
                catalog.add(index)
        return catalog

    def __contains__(self, index: object) -> bool:
        assert isinstance(index, int)
        return bool(self._bits[index >> 3] & 1 << (index & 7))

    def add(self, index: int) -> None:
        """Note that the shard is committed."""
        if index not in self:
            self._bits[index >> 3] |= 1 << (index & 7)
            self.committed += 1

    @property
    def complete(self) -> bool:
        """Whether nothing is left to be made."""
        return self.committed == self.shards

    def pending(self, indices: range) -> Iterator[int]:
        """The shards among these that are not committed, found as they are asked for."""
        return (index for index in indices if index not in self)
