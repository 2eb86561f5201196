"""Reading objects in pieces: a stream that survives broken connections, and a seekable file."""

import io
from typing import TYPE_CHECKING, Any

from botocore.exceptions import FlexibleChecksumError

from actors.errors import PreconditionFailed, Problem, StorageError
from actors.storage.bucket import ObjectInfo
from actors.storage.patience import BROKEN_CONNECTION
from actors.storage.s3client import S3Client

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PIECE_BYTES = 1 << 20
"""What is read at once. A Parquet footer fits; at 100 MB/s it takes as long as an S3 request takes to begin."""


class ObjectStream:
    """One object from its first byte to its last, taken up where it broke off."""

    def __init__(self, client: S3Client, name: str) -> None:
        self._client = client
        self._name = name
        self._offset = 0
        self._size: int | None = None
        self._etag: str | None = None
        self._body: Any = None

    def piece(self) -> bytes:
        """The next piece; empty at the end."""
        try:
            return self._client.attempt(self._next, "get_object", self._name)
        except PreconditionFailed as lost:
            raise _replaced(self._client, self._name) from lost

    def close(self) -> None:
        """Give up the connection; the next piece opens another."""
        if self._body is not None:
            self._body.close()
            self._body = None

    def _next(self) -> bytes:
        if self._body is None:
            if self._offset == self._size:
                return b""
            self._connect()
        try:
            data: bytes = self._body.read(PIECE_BYTES)
        except FlexibleChecksumError as error:
            problem = Problem("LM1309", f"s3://{self._client.bucket}/{self._name} arrived damaged", value=str(error))
            raise StorageError(problem) from error
        except BROKEN_CONNECTION:
            self.close()
            raise
        self._offset += len(data)
        return data

    def _connect(self) -> None:
        again = {"Range": f"bytes={self._offset}-", "IfMatch": self._etag} if self._etag else {}
        answer = self._client.once("get_object", Key=self._name, **again)
        self._body = answer["Body"]
        etag, size = answer["ETag"].strip('"'), self._offset + answer["ContentLength"]
        if (self._etag or etag, self._size or size) != (etag, size):  # rclone ignores If-Match
            self.close()
            raise _replaced(self._client, self._name)
        self._etag, self._size = etag, size


class ObjectFile(io.RawIOBase):
    """An object as an unbuffered file: every read is one ranged request."""

    def __init__(self, client: S3Client, name: str, info: ObjectInfo) -> None:
        self._client = client
        self._name = name
        self._info = info
        self._offset = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._offset

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._offset, io.SEEK_END: self._info.size}[whence]
        if start + offset < 0:
            raise ValueError(f"seek to {start + offset}")
        self._offset = start + offset
        return self._offset

    def readall(self) -> bytes:
        """The rest in one request. Python's own asks for 8 KiB at a time."""
        rest = read_range(
            self._client, self._name, self._offset, max(0, self._info.size - self._offset), self._info.etag
        )
        self._offset += len(rest)
        return rest

    def readinto(self, buffer: "WriteableBuffer") -> int:
        with memoryview(buffer).cast("B") as view:
            length = max(0, min(len(view), self._info.size - self._offset))
            view[:length] = read_range(self._client, self._name, self._offset, length, self._info.etag)
        self._offset += length
        return length


def read_range(client: S3Client, name: str, start: int, length: int, etag: str | None = None) -> bytes:
    """`length` bytes from `start`, of the object with this etag if one is given."""
    if not length:
        return b""

    def fetch() -> tuple[bytes, str]:
        match = {"IfMatch": etag} if etag else {}
        answer = client.once("get_object", Key=name, Range=f"bytes={start}-{start + length - 1}", **match)
        return answer["Body"].read(), answer["ETag"].strip('"')

    try:
        data, found = client.attempt(fetch, "get_object", name)
    except PreconditionFailed as lost:
        raise _replaced(client, name) from lost
    if etag not in (None, found):
        raise _replaced(client, name)
    if len(data) != length:
        problem = Problem("LM1309", f"s3://{client.bucket}/{name} ends before byte {start + length}")
        raise StorageError(problem)
    return data


def _replaced(client: S3Client, name: str) -> StorageError:
    return StorageError(Problem("LM1309", f"s3://{client.bucket}/{name} was replaced while it was read"))
