"""ShardWriter: a shard's samples in, its images stored, its rows filled in.

The images are encoded in threads shared by all shards of a worker, and stored in the order of their arrival by one
thread of the writer's own, so that the bytes of a tar follow from its samples and not from the timing of the threads.
"""

import hashlib
from collections.abc import Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from actors import crash
from actors.backlog import Backlog
from actors.encoding import encode
from actors.errors import Problem
from actors.imprint import Imprint
from actors.models.model import Pixels
from actors.parquet_sink import ParquetSink
from actors.records import DataFile, Shard
from actors.settings import EncodingSettings
from actors.settings import Sink as SinkName
from actors.sidecar import sidecar
from actors.sinks import EncodedImage, FilesSink, Sink, TarSink
from actors.storage.bucket import Bucket, Wanted

Row = dict[str, Any]
"""One row of the metadata, by the names of its columns."""

NO_COLUMNS = pa.schema([])
BACKLOG_BYTES = 256 * 1024 * 1024
"""Pixels and encoded images that wait, per shard in the making, what a sink collects among them: 85 images of
1024 x 1024, or with Parquet's row groups 64."""
ROW_BYTES = 4096
"""Counted for each row, so that rows with tiny images are bounded too."""
GROUP_BYTES = 3 * 1024 * 1024
"""Images go to the encoders together, up to one of 1024 x 1024 pixels: handing over to a thread costs 70 us and the
core an encoder had. In groups of four, WebP of 512 pixels were written 3 % faster than one by one."""


class _Group:
    """Samples that are encoded by one call: one large image, or several small ones."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.pixels: list[Pixels] = []
        self.held = 0
        """Bytes of the backlog: of the rows and the pixels, and once encoded of the rows and the images."""
        self.encoded: Future[list[EncodedImage | Problem]] | None = None


class ShardWriter:
    """Writes one attempt at a shard. As a context manager it aborts unless it was finished.

    Memory is bounded by `backlog_bytes` (and the batch to which the last of the pixels belong), whatever the size of
    the shard: `add` holds back, and `seconds` says for how long, and whether the encoders or the store were the cause.
    """

    def __init__(
        self,
        bucket: Bucket,
        shard: Shard,
        attempt: str,
        *,
        sink: SinkName,
        encoding: EncodingSettings,
        executor: Executor,
        carried: pa.Schema = NO_COLUMNS,
        backlog_bytes: int = BACKLOG_BYTES,
    ) -> None:
        """`carried` are the columns of the user's table, as `metadata_file` takes them."""
        self._aborted = False
        self._sink = _open_sink(sink, bucket, f"{shard.name}-{attempt}", lambda: not self._aborted, carried)
        self._with_sidecar = sink == "webdataset"
        self._encoding = encoding
        self._executor = executor
        self._backlog = Backlog(backlog_bytes - self._sink.collects)
        self._rows: list[Row] = []
        self._group = _Group()
        self._queue: SimpleQueue[_Group | None] = SimpleQueue()
        self._finished = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"store-{shard.name}")
        self._stored = self._thread.submit(self._store)

    @property
    def seconds(self) -> Mapping[str, float]:
        """How long `add` and `finish` were held back: `encode_wait` and `upload_wait`."""
        return self._backlog.seconds

    def add(self, row: Row, pixels: Pixels) -> None:
        """A sample with its image. The row is the writer's from here on; its `key` names the image.

        Raises what the store raised; an image that cannot be encoded becomes a failed row.
        """
        crash.point("writer.add")
        self._rows.append(row)
        size = pixels.nbytes + ROW_BYTES
        if not self._backlog.fits(size):
            self._submit()
        self._backlog.take(size)
        if self._backlog.closed:
            self._stored.result()
        self._group.rows.append(row)
        self._group.pixels.append(pixels)
        self._group.held += size
        if self._group.held >= GROUP_BYTES:
            self._submit()

    def add_row(self, row: Row) -> None:
        """A sample without an image: failed or filtered."""
        self._rows.append(row)

    def finish(self) -> tuple[list[Row], tuple[DataFile, ...]]:
        """Wait until all is stored. The rows in the order of their arrival, and the files that they refer to."""
        self._submit()
        self._queue.put(None)
        self._backlog.wait_until_closed()
        files = self._stored.result()
        self._thread.shutdown()
        self._finished = True
        return self._rows, files

    def abort(self) -> None:
        """Stop, and remove what was not finished. A store that is away is not waited for."""
        self._aborted = True
        self._queue.put(None)
        self._thread.shutdown()
        self._sink.abort()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._finished:
            self.abort()

    def _submit(self) -> None:
        """Hand the waiting samples to the encoders."""
        if self._group.rows:
            group, self._group = self._group, _Group()
            group.encoded = self._executor.submit(self._encode_group, group)
            self._queue.put(group)

    def _encode_group(self, group: _Group) -> list[EncodedImage | Problem]:
        """Runs in the shared threads."""
        if self._aborted:
            return []
        images = [self._encode(row, pixels) for row, pixels in zip(group.rows, group.pixels, strict=True)]
        group.pixels.clear()
        held = sum(len(image.data) for image in images if isinstance(image, EncodedImage)) + ROW_BYTES * len(images)
        self._backlog.give(group.held - held)
        group.held = held
        return images

    def _encode(self, row: Row, pixels: Pixels) -> EncodedImage | Problem:
        try:
            imprint = Imprint.of(row) if self._encoding.metadata else None
            data = encode(pixels, self._encoding, imprint)
        except Exception as error:  # noqa: BLE001  codecs raise what they like, and it concerns this image alone
            return Problem("LM1602", f"the image could not be encoded: {type(error).__name__}: {error}")
        row_json = sidecar(row) if self._with_sidecar else b""
        return EncodedImage(row["key"], self._encoding.format, data, hashlib.sha256(data).hexdigest(), row_json)

    def _store(self) -> tuple[DataFile, ...]:
        """Runs in the writer's own thread until the queue ends; its result or exception is that of the shard."""
        try:
            while (group := self._queue.get()) is not None:
                assert group.encoded is not None
                images = group.encoded.result()
                with self._backlog.storing():
                    for row, image in zip(group.rows, images, strict=False):
                        if self._aborted:
                            return ()
                        self._store_image(row, image)
                self._backlog.give(group.held)
            if self._aborted:
                return ()
            crash.point("writer.finish")
            with self._backlog.storing():
                return self._sink.finish()
        finally:
            self._backlog.close()

    def _store_image(self, row: Row, image: EncodedImage | Problem) -> None:
        if isinstance(image, Problem):
            row.update(status="failed", error_code=image.code, error=image.message)
            return
        row.update(format=image.format, sha256=image.sha256)
        self._sink.append(image, row)
        crash.point("writer.member")


def _open_sink(name: SinkName, bucket: Bucket, stem: str, wanted: Wanted, carried: pa.Schema) -> Sink:
    if name == "parquet":
        return ParquetSink(bucket, stem, wanted, carried)
    return (TarSink if name == "webdataset" else FilesSink)(bucket, stem, wanted)
