"""FolderUpload: a file written under a hidden name, and moved into place when it is whole."""

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from actors import crash
from actors.storage.bucket import ObjectInfo
from actors.storage.mishaps import explained

if TYPE_CHECKING:
    from actors.storage.folder import FolderBucket

CHUNK_BYTES = 8 << 20
"""As much as a part has over S3: what a crash point counts as one step."""


class FolderUpload:
    """One object being written. `seconds_waited` is the time that the file system took to take the bytes."""

    def __init__(self, bucket: "FolderBucket", key: str) -> None:
        self.seconds_waited = 0.0
        self._bucket = bucket
        self._key = key
        self._size = 0
        self._path = bucket.path(key)
        with explained(self._path, "write"):
            self._temporary = bucket.temporary(key)
            self._file = self._temporary.open("wb", buffering=0)  # a buffer would try to write again while closing

    def write(self, data: bytes | memoryview) -> None:
        started = time.perf_counter()
        chunks_before = self._size // CHUNK_BYTES
        view = memoryview(data).cast("B")
        with explained(self._path, "write"):
            while view:
                written = self._file.write(view)
                self._size += written
                view = view[written:]
        self.seconds_waited += time.perf_counter() - started
        if self._size // CHUNK_BYTES > chunks_before:
            crash.point("upload.part")

    def complete(self) -> ObjectInfo:
        crash.point("upload.complete")
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
