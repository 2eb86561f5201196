"""ParquetSink: images inside Parquet, as the `Image` feature of Hugging Face's datasets, uploaded while they are made.

The bytes of the images are stored as they are: neither compressed nor in a dictionary, and without statistics, each of
which only costs time. So each image lies in one piece in the file, and its row can say where, as it does of a tar.
"""

import hashlib
import json
from collections import deque
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from actors import metadata
from actors.features import HINT, IMAGE, IMAGE_TYPE, has_feature
from actors.records import SCHEMA_VERSION, DataFile, carried_name
from actors.sidecar import LEFT_OUT
from actors.sinks import JOIN_BELOW, EncodedImage
from actors.storage.bucket import Bucket, Upload, Wanted
from actors.storage.outlet import Outlet

STORED = f"{IMAGE}.bytes"
ALWAYS_EQUAL = frozenset({"status", "error_code", "error"})
"""Failed rows are not in it."""
GROUP_BYTES = 64 * 1024 * 1024
"""Of images in a row group: what a writer holds in memory, and what a reader of one column need not read."""
PAGE_BYTES = 1024 * 1024
"""Of images in a page, and the last of them: what a reader of one image decodes."""
HEAD_BYTES = 32
LEVELS_BYTES = 64
"""Before the first image of a page there are its levels: two runs, 12 bytes."""


def schema(carried: pa.Schema) -> pa.Schema:
    """Of every data file of a job: the image, and of its row whatever says what it is."""
    # One of the user's columns may be `image`, too.
    columns = [pa.field(carried_name(field.name, (IMAGE,)), field.type) for field in _columns(carried)]
    notes = {"huggingface": json.dumps(HINT), "lightmill": json.dumps({"schema_version": SCHEMA_VERSION})}
    return pa.schema([pa.field(IMAGE, IMAGE_TYPE), *columns], notes)


def _columns(carried: pa.Schema) -> pa.Schema:
    """Of the metadata, by the names there. What differs between two attempts at the same images is left out, and maps,
    with which no loader of images would read the file."""
    left_out = LEFT_OUT | ALWAYS_EQUAL
    wanted = (field for field in metadata.schema(carried) if field.name not in left_out)
    return pa.schema([field for field in wanted if has_feature(field.type)])


class ParquetSink:
    """One Parquet file. Without images there is none.

    A row group is written when `GROUP_BYTES` of images have come together, and only then do its rows get their
    `file_offset`; memory does not grow with the shard.
    """

    def __init__(self, bucket: Bucket, stem: str, wanted: Wanted, carried: pa.Schema) -> None:
        self._bucket = bucket
        self._wanted = wanted
        self._file = f"images/{stem}.parquet"
        self._columns = _columns(carried)
        self._schema = schema(carried)
        self._upload: Upload | None = None
        self._writer: pq.ParquetWriter | None = None
        self._digest = hashlib.sha256()
        self._bytes = 0
        self._rows = 0
        self._images: list[EncodedImage] = []
        """Of the next row group; the rows are theirs."""
        self._image_rows: list[dict[str, Any]] = []
        self._held = 0
        self._sought: deque[tuple[EncodedImage, dict[str, Any]]] = deque()
        """Images that are being written, and of which nobody knows yet where they lie."""

    @property
    def collects(self) -> int:
        return GROUP_BYTES

    def append(self, image: EncodedImage, row: dict[str, Any]) -> None:
        row.update(file=self._file, file_length=len(image.data))
        self._images.append(image)
        self._image_rows.append(row)
        self._held += len(image.data)
        if self._held >= GROUP_BYTES:
            self._write_group()

    def _write_group(self) -> None:
        if self._writer is None:
            self._upload = self._bucket.upload(self._file, self._wanted)
            self._writer = _open(Outlet(self._take), self._schema)
        columns = pa.Table.from_pylist(self._image_rows, self._columns).rename_columns(self._schema.names[1:])
        table = columns.add_column(0, self._schema.field(0), _image_column(self._images))
        self._sought.extend(zip(self._images, self._image_rows, strict=True))
        self._writer.write_table(table, row_group_size=table.num_rows)
        if self._sought:
            raise RuntimeError(f"pyarrow {pa.__version__} did not write image {self._sought[0][0].key} in one piece")
        self._rows += len(self._images)
        self._images, self._image_rows, self._held = [], [], 0

    def _take(self, piece: bytes) -> None:
        """What pyarrow writes: a page, or the header of one, or the footer."""
        if self._upload is None:  # it was aborted, and pyarrow closes its file nevertheless
            return
        self._find_images(piece)
        self._digest.update(piece)
        self._upload.write(memoryview(piece))
        self._bytes += len(piece)

    def _find_images(self, piece: bytes) -> None:
        """In a page each image follows the one before, after four bytes that say how long it is."""
        end = 0
        while self._sought:
            image, row = self._sought[0]
            head = len(image.data).to_bytes(4, "little") + image.data[:HEAD_BYTES]
            found = piece.find(head, end, end + LEVELS_BYTES + len(head))
            end = found + 4 + len(image.data)
            if found < 0 or end > len(piece):
                return
            row["file_offset"] = self._bytes + found + 4
            self._sought.popleft()

    def finish(self) -> tuple[DataFile, ...]:
        if self._images:
            self._write_group()
        if self._writer is None or self._upload is None:
            return ()
        self._writer.close()
        self._upload.complete()
        return (DataFile(self._file, self._rows, self._bytes, self._digest.hexdigest()),)

    def abort(self) -> None:
        upload, self._upload = self._upload, None
        if self._writer is not None:
            self._writer.is_open = False  # or it would write its footer, once nobody needs it
        if upload is not None:
            upload.abort()


def _open(outlet: Outlet, file_schema: pa.Schema) -> pq.ParquetWriter:
    others = [path for path in _leaves(file_schema) if path != STORED]
    return pq.ParquetWriter(
        outlet,
        file_schema,
        # Not zstd, which opens a context for every column of every row group: together 7% of the time of a file.
        compression={STORED: "none", **dict.fromkeys(others, "snappy")},
        use_dictionary=[name for name in metadata.REPEATED if name in file_schema.names],
        column_encoding={STORED: "PLAIN"},
        write_statistics=others,
        data_page_size=PAGE_BYTES,
        write_page_index=True,
    )


@cache  # a worker writes thousands of files that have the same, and this takes 1 ms
def _leaves(file_schema: pa.Schema) -> tuple[str, ...]:
    """The columns as Parquet counts them, for which it is told what to do with each."""
    empty = pa.BufferOutputStream()
    pq.write_table(file_schema.empty_table(), empty)
    columns = pq.read_metadata(pa.BufferReader(empty.getvalue())).schema
    return tuple(columns.column(number).path for number in range(len(columns)))


def _image_column(images: Sequence[EncodedImage]) -> pa.ChunkedArray:
    """In chunks, each from one piece of memory. A large image is a chunk as it is: joining 64 MiB takes longer than
    writing them, while a chunk costs 5 us."""
    paths = pa.array([f"{image.key}.{image.format}" for image in images], pa.string())
    chunks, first = [], 0
    for group in _chunks(images):
        ends = accumulate((len(image.data) for image in group), initial=0)
        offsets = np.fromiter(ends, np.int32, len(group) + 1)
        data = group[0].data if len(group) == 1 else b"".join(image.data for image in group)
        stored = pa.Array.from_buffers(pa.binary(), len(group), [None, pa.py_buffer(offsets), pa.py_buffer(data)])
        children = [stored, paths.slice(first, len(group))]
        chunks.append(pa.Array.from_buffers(IMAGE_TYPE, len(group), [None], children=children))
        first += len(group)
    return pa.chunked_array(chunks, IMAGE_TYPE)


def _chunks(images: Sequence[EncodedImage]) -> Iterator[Sequence[EncodedImage]]:
    first = size = 0
    for number, image in enumerate(images):
        size += len(image.data)
        if size >= JOIN_BELOW:
            yield images[first : number + 1]
            first, size = number + 1, 0
    if first < len(images):
        yield images[first:]
