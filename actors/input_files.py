"""InputFiles: the bytes of input images, from wherever a table may say that they are, and of images of the output."""

import os
import stat
import threading
from pathlib import Path

from actors.errors import InputError, Problem, StorageError
from actors.ingredients import Ingredient, Parent
from actors.settings import StorageSettings
from actors.storage.bucket import Bucket, Wanted, always
from actors.storage.opening import open_bucket
from actors.tables.references import References
from actors.urls import Url
from actors.web import NotFetched, Web

MAX_BYTES = 64 << 20
"""Of one file: what an uncompressed photograph of 20 megapixels takes."""
ITS_OWN_FAULT = frozenset({"LM1301", "LM1302", "LM1320"})
"""What a store says of one object: its bucket is not there, or not for us, or it is not there itself. Anything else
concerns the store, and whoever works on the shard has to know."""


class InputFiles:
    """Files by their references, and images of the stage before. Any number of threads may read."""

    def __init__(
        self, references: References, output: Bucket, storage: StorageSettings, wanted: Wanted = always
    ) -> None:
        self._references = references
        self._output = output
        self._storage = storage
        self._wanted = wanted
        self._web = Web(references.allows, MAX_BYTES, wanted)
        self._buckets: dict[str, Bucket] = {}
        self._opening = threading.Lock()

    def read(self, ingredient: Ingredient) -> bytes:
        """The whole file, or the one image.

        Raises `InputError`: LM1031 the reference may not be followed, LM1618 there is no such file, it is too large, or
        its web server does not hand it out; `StorageError` where the store is at fault; and `Stopped`.
        """
        if isinstance(ingredient, Parent):
            return self._from_output(ingredient)
        reference = ingredient.file
        place = self._references.place_of(reference)
        if isinstance(place, Path):
            return _from_here(place, reference)
        return self._from_store(place, reference) if place.scheme == "s3" else self._from_web(place, reference)

    def _from_output(self, parent: Parent) -> bytes:
        if parent.file is None:
            raise _unusable(parent.key, "its row has no image by now")
        _check_size(parent.file_length, parent.key)
        try:
            return self._output.read(parent.file, parent.file_offset, parent.file_length)
        except StorageError as error:
            if error.problems[0].code in ITS_OWN_FAULT:
                raise _unusable(parent.key, error.problems[0].message) from error
            raise

    def _from_web(self, url: Url, reference: str) -> bytes:
        try:
            return self._web.get(url)
        except NotFetched as error:
            raise _unusable(reference, str(error)) from error

    def _from_store(self, url: Url, reference: str) -> bytes:
        name, key = url.host, url.target
        with self._opening:
            if name not in self._buckets:
                self._buckets[name] = open_bucket(f"s3://{name}", self._storage, wanted=self._wanted)
        bucket = self._buckets[name]
        try:
            info = bucket.head(key)
            if info is None:
                raise _unusable(reference, "there is no such object")
            _check_size(info.size, reference)
            return bucket.get(key)
        except StorageError as error:
            if error.problems[0].code in ITS_OWN_FAULT:
                raise _unusable(reference, error.problems[0].message) from error
            raise


def _from_here(path: Path, reference: str) -> bytes:
    try:
        # Without waiting for whoever writes, where it is a pipe.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise _unusable(reference, "it is no file")
            _check_size(status.st_size, reference)
            return file.read(MAX_BYTES)
    except OSError as error:
        raise _unusable(reference, error.strerror or str(error)) from error


def _check_size(size: int, reference: str) -> None:
    if size > MAX_BYTES:
        raise _unusable(reference, f"it has {size:,} bytes, more than {MAX_BYTES:,}")


def _unusable(reference: str, why: str) -> InputError:
    message = f"input image {reference}: {why}"
    return InputError(Problem("LM1618", message, value=reference, help="mend the file, or name another"))
