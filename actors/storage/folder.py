"""FolderBucket: a Bucket over a folder of a file system, local or shared."""

import fcntl
import os
import random
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, unquote

from actors.errors import Problem, StorageError
from actors.storage.bucket import Fence, ObjectInfo, PendingUpload, Wanted, always
from actors.storage.folder_upload import FolderUpload
from actors.storage.keys import checked, not_as_expected, not_found
from actors.storage.mishaps import explained

HIDDEN = ".tmp"
"""Beside the objects, since only within one file system can a file be moved into place at once."""
PIECE_BYTES = 1 << 20
NO_SUCH_FILE = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


class FolderBucket:
    """The files below one folder, which the first write creates. Threads and processes may share it."""

    def __init__(self, root: Path) -> None:
        self.url = str(root)
        self._root = root
        self._hidden = root / HIDDEN

    def get(self, key: str) -> bytes:
        with self._reading(key) as path:
            return path.read_bytes()

    def read(self, key: str, start: int, length: int) -> bytes:
        with self._reading(key) as path, path.open("rb") as file:
            file.seek(start)
            data = file.read(length)
        if len(data) != length:
            raise StorageError(Problem("LM1309", f"{path} ends before byte {start + length}"))
        return data

    def stream(self, key: str) -> Iterator[bytes]:
        with self._reading(key) as path, path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                yield piece

    def open(self, key: str) -> BinaryIO:
        with self._reading(key) as path:
            return path.open("rb")

    def head(self, key: str) -> ObjectInfo | None:
        path = self.path(key)
        with explained(path, "read"):
            try:
                status = path.stat()
            except NO_SUCH_FILE:
                return None
        return None if path.is_dir() else _describe(key, status)

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
        path = self.path(key)
        with explained(path, "write"):
            temporary = self.temporary(key)
            try:
                with temporary.open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())  # which may take long, and comes before the fence for that
                    if fence:
                        fence()
                    return self.place(key, temporary, file.fileno(), if_absent=if_absent, if_match=if_match)
            finally:
                temporary.unlink(missing_ok=True)

    def upload(self, key: str, wanted: Wanted = always) -> FolderUpload:
        return FolderUpload(self, key)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        folder = prefix[: prefix.rfind("/") + 1]
        if folder:
            self.path(folder[:-1])
        with explained(self._root, "read"):
            yield from self._walk(folder, prefix)

    def delete(self, key: str) -> None:
        path = self.path(key)
        with explained(path, "delete"):
            if not path.is_file():
                return
            with self._locked(fcntl.LOCK_EX):
                path.unlink(missing_ok=True)
                _remove_empty(path.parent, below=self._root)

    def pending_uploads(self) -> Iterator[PendingUpload]:
        with explained(self._hidden, "read"):
            for path in sorted(self._hidden.glob("*.*")):
                try:
                    status = path.stat()
                except FileNotFoundError:  # whole by now, and moved into place
                    continue
                _, _, key = path.name.partition(".")
                yield PendingUpload(unquote(key), path.name, _time(status))

    def abort_upload(self, upload: PendingUpload) -> None:
        path = self._hidden / upload.upload_id
        with explained(path, "delete"):
            path.unlink(missing_ok=True)

    def now(self) -> datetime:
        """The file system's clock, as it dates files. Who may not write here has no lease to time: then our own."""
        clock = self._hidden / "clock"
        if not os.access(self._hidden, os.W_OK):
            return datetime.now(UTC)
        with explained(clock, "write"):
            clock.touch()
            return _time(clock.stat())

    def path(self, key: str) -> Path:
        """The file of a key. Keys that only a file system takes for another, or for ours, are refused."""
        parts = checked(key).split("/")
        if parts[0] == HIDDEN or "\0" in key or not {"", "."}.isdisjoint(parts):
            raise ValueError(f"not a key: {key!r}")
        return self._root / key

    def temporary(self, key: str) -> Path:
        """A name for an object that is not whole yet. `pending_uploads` reads the key from it, cut to what fits."""
        _make_folder(self._hidden)
        return self._hidden / f"{uuid.uuid4().hex}.{quote(key, safe='')[:200]}"

    def place(
        self, key: str, temporary: Path, descriptor: int, *, if_absent: bool = False, if_match: str | None = None
    ) -> ObjectInfo:
        """Make a whole file the object: at once, and so that it outlives a power cut."""
        path = self.path(key)
        _stamp(descriptor)
        os.fsync(descriptor)
        with self._locked(fcntl.LOCK_EX if if_match else fcntl.LOCK_SH):
            if if_match:
                found = self.head(key)
                if found is None or found.etag != if_match:
                    raise not_as_expected(str(path), f"it is {found.etag if found else 'gone'}, not {if_match}")
            _make_folder(path.parent)
            try:
                (os.link if if_absent else os.replace)(temporary, path)
            except FileExistsError:
                raise not_as_expected(str(path), "it exists") from None
            _make_lasting(path.parent)
        return _describe(key, os.fstat(descriptor))

    @contextmanager
    def _reading(self, key: str) -> Iterator[Path]:
        path = self.path(key)
        with explained(path, "read"):
            try:
                yield path
            except NO_SUCH_FILE as error:
                raise not_found(str(path)) from error

    def _walk(self, folder: str, prefix: str) -> Iterator[ObjectInfo]:
        try:
            with os.scandir(self._root / folder) as entries:
                names = sorted(entry.name + "/" * entry.is_dir() for entry in entries)  # as keys sort, not as names do
        except NO_SUCH_FILE:
            return
        for name in names:
            key = folder + name
            if name.endswith("/"):
                if key != HIDDEN + "/" and (key.startswith(prefix) or prefix.startswith(key)):
                    yield from self._walk(key, prefix)
            elif key.startswith(prefix) and (info := self.head(key)):
                yield info

    @contextmanager
    def _locked(self, kind: int) -> Iterator[None]:
        """Writes share the lock; what must see no write between its look and its own takes it alone."""
        _make_folder(self._hidden)
        descriptor = os.open(self._hidden / "lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, kind)
            yield
        finally:
            os.close(descriptor)


def _describe(key: str, status: os.stat_result) -> ObjectInfo:
    etag = f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"
    return ObjectInfo(key, status.st_size, etag, _time(status))


def _time(status: os.stat_result) -> datetime:
    return datetime.fromtimestamp(status.st_mtime, UTC)


def _stamp(descriptor: int) -> None:
    """Move the file's time by less than a millisecond, at random. File systems date by the tick (1-10 ms) and use
    the inode of a replaced file again at once, so that without this two writes could have one etag."""
    status = os.fstat(descriptor)
    os.utime(descriptor, ns=(status.st_atime_ns, status.st_mtime_ns + random.randrange(1_000_000)))  # noqa: S311


def _make_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _make_lasting(folder.parent)


def _make_lasting(folder: Path) -> None:
    """A name in a folder outlives a power cut once the folder itself is synced."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_empty(folder: Path, below: Path) -> None:
    """As over S3, where a folder is no more than the keys in it."""
    while folder != below and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
