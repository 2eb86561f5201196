"""Bucket: put, get and list under one prefix, the same over S3 and over a folder."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import BinaryIO, Protocol, Self

Fence = Callable[[], object]
"""Called right before bytes are sent: what it raises keeps them from being sent."""
Wanted = Callable[[], bool]
"""Asked whenever a request has failed that may be tried again: whether anybody still waits for it."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a store says of one object. `etag` is opaque, without quotes: equal means the same write, no more."""

    key: str
    size: int
    etag: str
    modified: datetime


def always() -> bool:
    """The `Wanted` of what is tried for as long as there is patience."""
    return True


@dataclass(frozen=True, slots=True)
class PendingUpload:
    """A multipart upload that was begun and neither completed nor aborted."""

    key: str
    upload_id: str
    initiated: datetime


class Upload(Protocol):
    """One object being written in pieces. It exists only once `complete` has returned.

    As a context manager it aborts unless it was completed. `write` holds back when the store is slower than the
    writer, so memory stays bounded, whatever the size of the object; `seconds_waited` counts that time.
    """

    seconds_waited: float

    def write(self, data: bytes | memoryview) -> None:
        """The next bytes. They are kept as they are until they are sent: nobody changes them from here on."""
        ...

    def complete(self) -> ObjectInfo: ...

    def abort(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Bucket(Protocol):
    """Objects under one prefix. Keys are relative, `/`-separated, and never contain `..`.

    Every method raises `StorageError` (with LM13xx saying what the store answered and what to do) once its
    retries are exhausted.
    """

    url: str

    def get(self, key: str) -> bytes:
        """The whole object. Raises `NotFound`."""
        ...

    def read(self, key: str, start: int, length: int) -> bytes:
        """`length` bytes from `start`. Raises `NotFound`, and `StorageError` if the object is shorter."""
        ...

    def stream(self, key: str) -> Iterator[bytes]:
        """The object in pieces, resumed at the right offset when a connection breaks. Raises `NotFound`."""
        ...

    def open(self, key: str) -> BinaryIO:
        """The object as a seekable file; only what is read is fetched. Raises `NotFound`."""
        ...

    def head(self, key: str) -> ObjectInfo | None:
        """What the store says of the object, or None when there is none."""
        ...

    def put(
        self,
        key: str,
        data: bytes,
        *,
        if_absent: bool = False,
        if_match: str | None = None,
        fence: Fence | None = None,
        wanted: Wanted = always,
    ) -> ObjectInfo:
        """Write the whole object at once: a reader sees all of it or none.

        With `if_absent` only where there is none, with `if_match` only over the object with that etag; the loser
        gets `PreconditionFailed`. Stores exist that ignore both (see `probe`).

        With a `fence` it is asked before every attempt, and an attempt is given up after 15 s: so it ends before the
        right to make it does (see `jobs.lease`), however long the store keeps us waiting.
        """
        ...

    def upload(self, key: str, wanted: Wanted = always) -> Upload:
        """Begin to write an object in pieces."""
        ...

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Every object whose key begins with `prefix`, in the order of the keys."""
        ...

    def delete(self, key: str) -> None:
        """Remove the object; one that is not there is no error."""
        ...

    def pending_uploads(self) -> Iterator[PendingUpload]:
        """Multipart uploads under this prefix that nobody has finished."""
        ...

    def abort_upload(self, upload: PendingUpload) -> None:
        """End a multipart upload of which the writer is gone."""
        ...

    def now(self) -> datetime:
        """The store's own clock, in UTC: the only one that leases and ages are measured by."""
        ...
