"""A Bucket in memory, whose uploads and puts a test can slow down, break or watch."""

import io
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256

from actors.errors import NotFound, PreconditionFailed, Problem
from actors.storage.bucket import ObjectInfo


class MemoryBucket:
    url = "memory://bucket"

    def __init__(
        self,
        before_write: Callable[[str, int], None] = lambda key, size: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ):
        """`before_write(key, size)` is called before bytes are taken in; it may wait, or raise."""
        self.objects: dict[str, bytes] = {}
        self.modified: dict[str, datetime] = {}
        self.now = now
        self.before_write = before_write
        self._lock = threading.Lock()

    def get(self, key):
        if key not in self.objects:
            raise NotFound(Problem("LM1300", f"no object {key}"))
        return self.objects[key]

    def read(self, key, start, length):
        return self.get(key)[start : start + length]

    def stream(self, key):
        yield self.get(key)

    def open(self, key):
        return io.BytesIO(self.get(key))

    def head(self, key):
        data = self.objects.get(key)
        return None if data is None else ObjectInfo(key, len(data), sha256(data).hexdigest(), self.modified[key])

    def put(self, key, data, *, if_absent=False, if_match=None, fence=None, wanted=None):
        self.before_write(key, len(data))
        if fence:
            fence()
        with self._lock:
            info = self.head(key)
            if (if_absent and info) or (if_match and (info is None or info.etag != if_match)):
                raise PreconditionFailed(Problem("LM1300", f"{key} is another object"))
            self.modified[key] = self.now()
            self.objects[key] = bytes(data)
            return self.head(key)

    def upload(self, key, wanted=None):
        return MemoryUpload(self, key)

    def list(self, prefix=""):
        return iter([self.head(key) for key in sorted(self.objects) if key.startswith(prefix)])

    def delete(self, key):
        self.objects.pop(key, None)

    def pending_uploads(self):
        return iter(())


class MemoryUpload:
    seconds_waited = 0.0

    def __init__(self, bucket, key):
        self._bucket = bucket
        self._key = key
        self._data = bytearray()

    def write(self, data):
        self._bucket.before_write(self._key, len(data))
        self._data += data

    def complete(self):
        return self._bucket.put(self._key, bytes(self._data))

    def abort(self):
        self._data.clear()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.abort()
