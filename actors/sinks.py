"""Where a shard's images go: into one tar that is being uploaded, or each into an object of its own.

`actors.parquet_sink` is the third way.
"""

import hashlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

from actors import tar
from actors.records import DataFile
from actors.storage.bucket import Bucket, ObjectInfo, Upload, Wanted

JOIN_BELOW = 64 * 1024
"""Bytes that are collected before they are written: a write costs 5 us, copying 64 KiB as much."""
PUTS_IN_FLIGHT = 16
"""At 50 ms a put, 320 images a second."""


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """An image as it is stored."""

    key: str
    format: str
    data: bytes
    sha256: str
    sidecar: bytes


class Sink(Protocol):
    """Takes the images of one attempt in order. Used by one thread.

    Each is made with a `wanted` that says whether a store which is away is still to be waited for: what turns false
    before `abort` is called lets that thread come back in seconds.
    """

    @property
    def collects(self) -> int:
        """Bytes of images that it may have taken before it stores any."""
        ...

    def append(self, image: EncodedImage, row: dict[str, Any]) -> None:
        """Store the image, and say in its row where."""
        ...

    def finish(self) -> tuple[DataFile, ...]:
        """The files that exist now, and are never changed again."""
        ...

    def abort(self) -> None:
        """Leave as little behind as can be."""
        ...


class TarSink:
    """WebDataset: `<key>.webp` and `<key>.json` side by side in one tar. Without images there is no tar."""

    collects = JOIN_BELOW

    def __init__(self, bucket: Bucket, stem: str, wanted: Wanted) -> None:
        self._bucket = bucket
        self._wanted = wanted
        self._file = f"images/{stem}.tar"
        self._upload: Upload | None = None
        self._digest = hashlib.sha256()
        self._small = bytearray()
        """Appended, and not yet written."""
        self._bytes = 0
        self._rows = 0

    def append(self, image: EncodedImage, row: dict[str, Any]) -> None:
        if self._upload is None:
            self._upload = self._bucket.upload(self._file, self._wanted)
        row.update(file=self._file, file_offset=self._bytes + tar.BLOCK, file_length=len(image.data))
        before, data, padding = tar.member(f"{image.key}.{image.format}", image.data)
        self._take(before)
        if len(data) < JOIN_BELOW:
            self._take(data)
        else:
            self._flush(self._upload)
            self._write(self._upload, data)
            self._bytes += len(data)
        for piece in (padding, *tar.member(f"{image.key}.json", image.sidecar)):
            self._take(piece)
        if len(self._small) >= JOIN_BELOW:
            self._flush(self._upload)
        self._rows += 1

    def _take(self, piece: bytes) -> None:
        self._small += piece
        self._bytes += len(piece)

    def _flush(self, upload: Upload) -> None:
        small, self._small = self._small, bytearray()
        self._write(upload, small)

    def _write(self, upload: Upload, piece: bytes | bytearray) -> None:
        self._digest.update(piece)
        upload.write(memoryview(piece))

    def finish(self) -> tuple[DataFile, ...]:
        if self._upload is None:
            return ()
        self._take(tar.END)
        self._flush(self._upload)
        self._upload.complete()
        return (DataFile(self._file, self._rows, self._bytes, self._digest.hexdigest()),)

    def abort(self) -> None:
        if self._upload is not None:
            self._upload.abort()


class FilesSink:
    """One object per image, `<key>.webp`, a few being put at a time.

    There is no `.json` beside it: it would double the number of requests, which is what loose files cost, and the
    shard's metadata says the same. After `abort` the objects already put remain, under a name that nothing refers to.
    """

    collects = 0

    def __init__(self, bucket: Bucket, stem: str, wanted: Wanted) -> None:
        self._bucket = bucket
        self._wanted = wanted
        self._folder = f"images/{stem}"
        self._files: list[DataFile] = []
        self._pool = ThreadPoolExecutor(PUTS_IN_FLIGHT, thread_name_prefix="put")
        self._puts: deque[Future[ObjectInfo]] = deque()

    def append(self, image: EncodedImage, row: dict[str, Any]) -> None:
        file = f"{self._folder}/{image.key}.{image.format}"
        row.update(file=file, file_offset=0, file_length=len(image.data))
        if len(self._puts) == PUTS_IN_FLIGHT:
            self._puts.popleft().result()
        self._puts.append(self._pool.submit(self._bucket.put, file, image.data, wanted=self._wanted))
        self._files.append(DataFile(file, 1, len(image.data), image.sha256))

    def finish(self) -> tuple[DataFile, ...]:
        while self._puts:
            self._puts.popleft().result()
        self._pool.shutdown()
        return tuple(self._files)

    def abort(self) -> None:
        self._pool.shutdown(cancel_futures=True)
