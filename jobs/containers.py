"""Containers: a data file read back, and compared with the rows that speak of its images."""

import hashlib
import io
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from actors.errors import NotFound, Problem, StorageError
from actors.features import IMAGE
from actors.parquet_sink import PAGE_BYTES
from actors.records import DataFile
from actors.storage.bucket import Bucket

BLOCK = 1024 * 1024
AT_ONCE = 16
"""Images of a Parquet file that are in memory, beside the page that they come from."""
UNREADABLE = (tarfile.TarError, pa.ArrowException, OSError, KeyError, TypeError, StorageError)

Row = Mapping[str, Any]


def file_faults(bucket: Bucket, file: DataFile, rows: Sequence[Row]) -> list[Problem]:
    """What is wrong with one file, and with its images by these rows."""
    kinds = {".tar": _tar_faults, ".parquet": _parquet_faults}
    check = next((check for ending, check in kinds.items() if file.file.endswith(ending)), _image_faults)
    try:
        return [*check(bucket, file, rows)]
    except NotFound:
        return [Problem("LM1804", "the file is not there", where=file.file)]
    except UNREADABLE as error:
        return [_another(file, f"the file cannot be read: {error}")]


def _image_faults(bucket: Bucket, file: DataFile, rows: Sequence[Row]) -> Iterator[Problem]:
    data = bucket.get(file.file)
    digest = hashlib.sha256(data).hexdigest()
    if (len(data), digest) != (file.bytes, file.sha256):
        yield _another(file)
    for row in rows:
        if (row["file_offset"], row["file_length"], row["sha256"]) != (0, len(data), digest):
            yield _other_image(file, row["key"])


def _tar_faults(bucket: Bucket, file: DataFile, rows: Sequence[Row]) -> Iterator[Problem]:
    reader = _Hashed(bucket.stream(file.file))
    images = {f"{row['key']}.{row['format']}": row for row in rows}
    with tarfile.open(fileobj=reader, mode="r|", bufsize=BLOCK) as tar:
        for member in tar:
            row = images.pop(member.name, None)
            if row is None:
                continue
            extracted = tar.extractfile(member)
            assert extracted is not None
            found = (member.offset_data, member.size, hashlib.sha256(extracted.read()).hexdigest())
            if found != (row["file_offset"], row["file_length"], row["sha256"]):
                yield _other_image(file, member.name)
    yield from _whole_faults(reader, file)
    if images:
        yield Problem("LM1806", f"{len(images)} images are not in the tar", where=file.file, value=min(images))


def _parquet_faults(bucket: Bucket, file: DataFile, rows: Sequence[Row]) -> list[Problem]:
    """Read twice: from front to back as bytes, and then as those see it who know nothing of offsets."""
    return [*_offset_faults(bucket, file, rows)] or [*_value_faults(bucket, file, rows)]


def _offset_faults(bucket: Bucket, file: DataFile, rows: Sequence[Row]) -> Iterator[Problem]:
    reader = _Hashed(bucket.stream(file.file))
    for row, image in _images_at_offsets(io.BufferedReader(reader, BLOCK), rows):
        if hashlib.sha256(image).hexdigest() != row["sha256"]:
            yield _other_image(file, row["key"])
    yield from _whole_faults(reader, file)


def _value_faults(bucket: Bucket, file: DataFile, rows: Sequence[Row]) -> Iterator[Problem]:
    hashes = {row["key"]: row["sha256"] for row in rows}
    for key, image in _images_of_parquet(bucket, file):
        if hashes.pop(key, None) != hashlib.sha256(image).hexdigest():
            yield _other_image(file, key)
    if hashes:
        message = f"{len(hashes)} images are not in the Parquet file"
        yield Problem("LM1806", message, where=file.file, value=min(hashes))


def _images_at_offsets(reader: io.BufferedReader, rows: Sequence[Row]) -> Iterator[tuple[Row, bytes]]:
    at = 0
    for row in sorted(rows, key=lambda row: int(row["file_offset"])):
        while skipped := reader.read(min(BLOCK, max(0, row["file_offset"] - at))):
            at += len(skipped)
        image = reader.read(row["file_length"])
        at += len(image)
        yield row, image


def _images_of_parquet(bucket: Bucket, file: DataFile) -> Iterator[tuple[str, bytes]]:
    with bucket.open(file.file) as opened, pq.ParquetFile(opened, buffer_size=PAGE_BYTES) as parquet:
        for batch in parquet.iter_batches(AT_ONCE, columns=["key", IMAGE], use_threads=False):
            for row in batch.to_pylist():
                yield row["key"], row[IMAGE]["bytes"]


def _whole_faults(reader: "_Hashed", file: DataFile) -> Iterator[Problem]:
    while reader.read(BLOCK):
        pass  # what comes after the last image
    if (reader.size, reader.digest) != (file.bytes, file.sha256):
        yield _another(file)


class _Hashed(io.RawIOBase):
    """A stream of bytes as a file, hashed as it goes by."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401
        if not self._rest:
            chunk = next(self._chunks, b"")
            self._hash.update(chunk)
            self.size += len(chunk)
            self._rest = memoryview(chunk)
        taken = min(len(buffer), len(self._rest))
        buffer[:taken] = self._rest[:taken]
        self._rest = self._rest[taken:]
        return taken


def _another(file: DataFile, message: str = "size or SHA-256 is not what was recorded") -> Problem:
    return Problem("LM1805", message, where=file.file)


def _other_image(file: DataFile, value: str) -> Problem:
    return Problem("LM1806", "the image is not the one of its row", where=file.file, value=value)
