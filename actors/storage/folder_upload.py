"""FolderUpload: a file written under a hidden name, and moved into place when it is whole."""

import errno
import fcntl
import mmap
import os
import time
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self

from actors import crash
from actors.storage.bucket import ObjectInfo
from actors.storage.mishaps import explained

if TYPE_CHECKING:
    from actors.storage.folder import FolderBucket

CHUNK_BYTES = 2 << 20
"""What is written at a time, and what a crash point counts as one step. A page of it costs 2 us when it is first
touched: with 8 MiB those of a shard of 70 images took as long as one image."""
DIRECT = getattr(os, "O_DIRECT", 0)
"""Past the page cache, where the file system can: copying into it, and writing it out in the end while nothing else is
left to do, took 5 % of a job that encodes WebP of 512 pixels on two cores."""


class FolderUpload:
    """One object being written. `seconds_waited` is the time that the file system took to take the bytes."""

    def __init__(self, bucket: "FolderBucket", key: str) -> None:
        self.seconds_waited = 0.0
        self._bucket = bucket
        self._key = key
        self._chunk = memoryview(mmap.mmap(-1, CHUNK_BYTES))  # whose address is a multiple of any block's size
        self._filled = 0
        self._path = bucket.path(key)
        with explained(self._path, "write"):
            self._temporary = bucket.temporary(key)
            self._file = self._temporary.open("wb", buffering=0)  # a buffer would try to write again while closing
        self._write_past_cache(True)

    def write(self, data: bytes | memoryview) -> None:
        started = time.perf_counter()
        view = memoryview(data).cast("B")
        while view:
            taken = min(len(view), CHUNK_BYTES - self._filled)
            self._chunk[self._filled : self._filled + taken] = view[:taken]
            self._filled += taken
            view = view[taken:]
            if self._filled == CHUNK_BYTES:
                self._flush()
                crash.point("upload.part")
        self.seconds_waited += time.perf_counter() - started

    def _flush(self) -> None:
        view, self._filled = self._chunk[: self._filled], 0
        with explained(self._path, "write"):
            while view:
                view = view[self._written(view) :]

    def _written(self, view: memoryview) -> int:
        try:
            return self._file.write(view)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self._write_past_cache(False)  # it cannot, or not from where the last write has ended
            return self._file.write(view)

    def _write_past_cache(self, past: bool) -> None:
        """Ask for it, or no longer: what is not whole blocks has to go the usual way."""
        flags = fcntl.fcntl(self._file, fcntl.F_GETFL)
        with suppress(OSError):
            fcntl.fcntl(self._file, fcntl.F_SETFL, flags | DIRECT if past else flags & ~DIRECT)

    def complete(self) -> ObjectInfo:
        crash.point("upload.complete")
        self._write_past_cache(False)
        self._flush()
        with explained(self._path, "write"):
            info = self._bucket.place(self._key, self._temporary, self._file.fileno())
        self._file.close()
        crash.point("upload.completed")
        return info

    def abort(self) -> None:
        self._file.close()
        with explained(self._path, "write"):
            self._temporary.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()
