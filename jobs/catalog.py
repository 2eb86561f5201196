"""Catalog: what exists. One bit per shard, so that a million shards take 125 kB."""

from collections.abc import Container, Iterator
from pathlib import PurePosixPath

from actors.storage.bucket import Bucket

PREFIX = "metadata/"


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
        for info in bucket.list(PREFIX):
            name = PurePosixPath(info.key).stem
            if name.isdigit() and int(name) < shards:
                catalog.add(int(name))
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
