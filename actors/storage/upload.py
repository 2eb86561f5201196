"""S3Upload: an object written while it is being made, in parts, with bounded memory."""

import logging
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from hashlib import sha256
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from actors import crash
from actors.errors import NotFound, Problem, StorageError
from actors.storage.bucket import ObjectInfo, Wanted
from actors.storage.patience import REFUSALS
from actors.storage.s3client import sha256_header

if TYPE_CHECKING:
    from actors.storage.s3 import S3Bucket

PART_BYTES = 8 << 20
"""At least 5 MiB (S3's rule); at 8 the time of a request no longer shows."""
PARTS_IN_FLIGHT = 4
"""Of one upload: 32 MiB of memory, and 4 x 60 MB/s on AWS."""

logger = logging.getLogger(__name__)


def part_bytes(number: int) -> int:
    """The size of a part, counted from 1. It grows after every thousand: S3's 10,000 parts are then 838 GB, not 84."""
    return PART_BYTES * (1 + 2 * ((number - 1) // 1000))


class S3Upload:
    """One object being written. What never fills a part is one plain PUT."""

    def __init__(self, bucket: "S3Bucket", key: str, wanted: Wanted) -> None:
        self.seconds_waited = 0.0
        self._bucket = bucket
        self._client = bucket.client
        self._key = key
        self._name = bucket.name(key)
        self._filling: list[memoryview] = []
        """The next part, in pieces: joining them once costs half of growing a buffer by them."""
        self._filled = 0
        self._size = 0
        self._upload_id: str | None = None
        self._parts: list[Future[dict[str, Any]]] = []
        self._in_flight: set[Future[dict[str, Any]]] = set()
        self._wanted = wanted
        self._ended = False
        self._threads = ThreadPoolExecutor(PARTS_IN_FLIGHT, thread_name_prefix="upload")

    def write(self, data: bytes | memoryview) -> None:
        assert not self._ended, "written after its end"
        view = memoryview(data).cast("B")
        self._size += len(view)
        while view:
            room = part_bytes(len(self._parts) + 1) - self._filled
            piece, view = view[:room], view[room:]
            self._filling.append(piece)
            self._filled += len(piece)
            if len(piece) == room:
                self._send_part()

    def complete(self) -> ObjectInfo:
        if self._upload_id is None:
            crash.point("upload.complete")
            info = self._bucket.put(self._key, bytes(self._take_part()))
        else:
            if self._filling:
                self._send_part()
            parts = [part.result() for part in self._parts]
            crash.point("upload.complete")
            info = self._join(self._upload_id, parts)
        crash.point("upload.completed")
        self._ended = True
        self._threads.shutdown()
        return info

    def abort(self) -> None:
        """Without patience: what a store that is away keeps of it, `clean` removes."""
        if self._ended:
            return
        self._ended = True
        self._threads.shutdown(cancel_futures=True)  # a part that arrives after the abort would be kept, and billed
        if self._upload_id is None:
            return
        try:
            self._client.once("abort_multipart_upload", Key=self._name, UploadId=self._upload_id)
        except REFUSALS as error:
            logger.warning("upload %s of %s is left behind: %s", self._upload_id, self._name, error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    def _send_part(self) -> None:
        self._upload_id = self._upload_id or self._begin()
        self._hold_back()
        number = len(self._parts) + 1
        part = self._threads.submit(self._put_part, self._upload_id, number, self._take_part())
        self._parts.append(part)
        self._in_flight.add(part)

    def _take_part(self) -> bytearray:
        body = bytearray().join(self._filling)  # as `bytes`, botocore would make a file of it, read in small blocks
        self._filling.clear()
        self._filled = 0
        return body

    def _is_wanted(self) -> bool:
        return not self._ended and self._wanted()

    def _begin(self) -> str:
        algorithm = {"ChecksumAlgorithm": "SHA256"}
        answer = self._client.call_with_checksum(
            "create_multipart_upload", {"Key": self._name}, algorithm, self._is_wanted
        )
        upload_id: str = answer["UploadId"]
        return upload_id

    def _hold_back(self) -> None:
        """Wait until fewer than `PARTS_IN_FLIGHT` are on their way; raise what became of one that failed."""
        started = time.perf_counter()
        full = len(self._in_flight) >= PARTS_IN_FLIGHT
        done, self._in_flight = wait(self._in_flight, timeout=None if full else 0, return_when=FIRST_COMPLETED)
        self.seconds_waited += time.perf_counter() - started
        for part in done:
            part.result()

    def _put_part(self, upload_id: str, number: int, body: bytearray) -> dict[str, Any]:
        checksum = sha256_header(sha256(body))
        parameters = {"Key": self._name, "UploadId": upload_id, "PartNumber": number, "Body": body}
        answer = self._client.call_with_checksum("upload_part", parameters, checksum, self._is_wanted)
        crash.point("upload.part")
        return {"PartNumber": number, "ETag": answer["ETag"], **(checksum if self._client.takes_checksums else {})}

    def _join(self, upload_id: str, parts: list[dict[str, Any]]) -> ObjectInfo:
        try:
            self._client.call(
                "complete_multipart_upload",
                Key=self._name,
                UploadId=upload_id,
                MultipartUpload={"Parts": parts},
            )
        except NotFound as error:  # as when it was done and the reply was lost: then the object is there
            logger.warning("%s: looking whether it was completed", error)
        info = self._bucket.head(self._key)
        if info is None or info.size != self._size:
            found = f"has {info.size} bytes" if info else "is not there"
            raise StorageError(
                Problem("LM1309", f"s3://{self._client.bucket}/{self._name} {found} after {self._size} bytes were sent")
            )
        return info
