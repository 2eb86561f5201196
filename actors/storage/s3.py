"""S3Bucket: a Bucket over S3 and everything that speaks its protocol."""

import io
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from hashlib import sha256
from typing import Any, BinaryIO

from actors.errors import NotFound, PreconditionFailed, StorageError
from actors.settings import StorageSettings
from actors.storage.bucket import Fence, ObjectInfo, PendingUpload, Wanted, always
from actors.storage.keys import checked, not_found
from actors.storage.patience import WrongReply
from actors.storage.ranged import PIECE_BYTES, ObjectFile, ObjectStream, read_range
from actors.storage.s3client import S3Client, sha256_header
from actors.storage.upload import S3Upload

DIGEST = "sha256"
"""Of the user's metadata of an object. rclone gives such names back capitalised."""


class S3Bucket:
    """The objects of one bucket under one prefix. Threads may share it; a process opens its own."""

    def __init__(
        self,
        bucket: str,
        prefix: str,
        settings: StorageSettings,
        patience_seconds: float,
        wanted: Wanted,
    ) -> None:
        self.client = S3Client(bucket, settings, patience_seconds, wanted)
        self._prefix = prefix.rstrip("/") + "/" if prefix.strip("/") else ""
        self.url = f"s3://{bucket}/{self._prefix}".rstrip("/")

    def name(self, key: str) -> str:
        """The key as the store knows it."""
        return self._prefix + checked(key)

    def get(self, key: str) -> bytes:
        name = self.name(key)

        def fetch() -> bytes:
            answer = self.client.once("get_object", Key=name)
            data: bytes = answer["Body"].read()
            _require_whole(answer, data)
            return data

        return self.client.attempt(fetch, "get_object", name)

    def read(self, key: str, start: int, length: int) -> bytes:
        return read_range(self.client, self.name(key), start, length)

    def stream(self, key: str) -> Iterator[bytes]:
        stream = ObjectStream(self.client, self.name(key))
        try:
            while piece := stream.piece():
                yield piece
        finally:
            stream.close()

    def open(self, key: str) -> BinaryIO:
        info = self.head(key)
        name = self.name(key)
        if info is None:
            raise not_found(f"s3://{self.client.bucket}/{name}")
        return io.BufferedReader(ObjectFile(self.client, name, info), PIECE_BYTES)

    def head(self, key: str) -> ObjectInfo | None:
        name = self.name(key)
        try:
            answer = self.client.call("head_object", Key=name)
        except NotFound:
            return None
        except StorageError as error:
            if error.code != "LM1308":  # the answer to a HEAD has no body that says why; that to a GET has one
                self.client.call("get_object", Key=name, Range="bytes=0-0")
            raise
        return ObjectInfo(key, answer["ContentLength"], answer["ETag"].strip('"'), answer["LastModified"])

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
        name = self.name(key)
        condition = {"IfNoneMatch": "*"} if if_absent else {"IfMatch": if_match} if if_match else {}
        digest = sha256(data)
        try:
            answer = self.client.call_with_checksum(
                "put_object",
                {"Key": name, "Body": data, "Metadata": {DIGEST: digest.hexdigest()}, **condition},
                sha256_header(digest),
                wanted,
                fence,
            )
        except NotFound as gone:  # what AWS says to If-Match where there is no object
            raise PreconditionFailed(*gone.problems) from gone
        # A PUT is not told its own LastModified; the date of the answer is within a second of it.
        return ObjectInfo(key, len(data), answer["ETag"].strip('"'), _date(answer))

    def upload(self, key: str, wanted: Wanted = always) -> S3Upload:
        return S3Upload(self, key, wanted)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        wanted = self._prefix + prefix
        more: dict[str, Any] = {}
        while True:
            page = self.client.call("list_objects_v2", Prefix=wanted, **more)
            for found in page.get("Contents", ()):
                if key := found["Key"].removeprefix(self._prefix):  # consoles make an object named like the prefix
                    yield ObjectInfo(key, found["Size"], found["ETag"].strip('"'), found["LastModified"])
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def delete(self, key: str) -> None:
        name = self.name(key)
        try:
            self.client.call("delete_object", Key=name)
        except NotFound:
            return

    def pending_uploads(self) -> Iterator[PendingUpload]:
        more: dict[str, Any] = {}
        while True:
            try:
                page = self.client.call("list_multipart_uploads", Prefix=self._prefix, **more)
            except NotFound:  # what rclone says where there is none
                return
            for found in page.get("Uploads", ()):
                yield PendingUpload(found["Key"].removeprefix(self._prefix), found["UploadId"], found["Initiated"])
            if not page.get("IsTruncated"):
                return
            more = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    def abort_upload(self, upload: PendingUpload) -> None:
        name = self.name(upload.key)
        try:
            self.client.call("abort_multipart_upload", Key=name, UploadId=upload.upload_id)
        except NotFound:
            return

    def now(self) -> datetime:
        return _date(self.client.call("list_objects_v2", Prefix=self._prefix, MaxKeys=1))


def _require_whole(answer: dict[str, Any], data: bytes) -> None:
    """Refuse a body that was damaged on its way, so that it is fetched again: stores that keep no checksum let a
    flipped bit through. Whatever `put` wrote carries its own SHA-256."""
    if answer["ContentLength"] != len(data):
        raise WrongReply(reason=f"{len(data)} bytes of {answer['ContentLength']}")
    stored = {name.casefold(): value for name, value in answer["Metadata"].items()}.get(DIGEST)
    if stored not in (None, sha256(data).hexdigest()):
        raise WrongReply(reason="its SHA-256 differs")


def _date(answer: dict[str, Any]) -> datetime:
    return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"]).astimezone(UTC)
