"""Committer: makes a shard exist, by one PUT of its metadata. The driver alone commits, under the lease."""

from actors import crash, metadata
from actors.errors import NotFound, PreconditionFailed, Problem, RunError, StorageError
from actors.metadata import ShardHeader
from actors.records import ShardReport
from actors.storage.bucket import Bucket
from actors.storage.probe import StoreClass
from jobs.lease import Lease


class DataMissing(StorageError):
    """A file of a shard is not in the store as its worker reported it; the shard must be made again."""


class Superseded(RunError):
    """The metadata to be replaced is no longer the one that was read."""


class Committer:
    """Decides which attempt of a shard is the one that exists: the first to be committed, for ever.

    Conditional writes are a second line, used where the store honours them; the lease is the first, and is asked right
    before every PUT. Before that the data files are looked at, so that nothing is promised of which a file is gone: a
    driver that slept for a day may find that `clean` took what it was about to commit.
    """

    def __init__(self, bucket: Bucket, lease: Lease, store: StoreClass) -> None:
        self._bucket = bucket
        self._lease = lease
        self._conditional = store == "strong"

    def commit(self, report: ShardReport) -> ShardHeader:
        """Commit this attempt, unless another one is: the header of the attempt that stands is returned.

        Raises `DataMissing`, `LeaseLost`, or `StorageError`.
        """
        key = metadata.key(report.shard)
        self._require_files(report)
        if not self._conditional and (standing := self._standing(key)) is not None:
            return standing
        crash.point("commit.put")
        try:
            self._put(key, report.metadata, if_absent=self._conditional)
        except PreconditionFailed:
            # Either another attempt was first, or our own write was, and its reply was lost.
            return metadata.read_header(self._bucket.get(key))
        crash.point("commit.done")
        return metadata.read_header(report.metadata)

    def replace(self, report: ShardReport, attempt: str) -> ShardHeader:
        """Put the rows of this report in the place of the same rows of `attempt`, which must be the one that stands.

        Raises `Superseded` if it is not, and as `commit` does.
        """
        key = metadata.key(report.shard)
        self._require_files(report)
        info = self._bucket.head(key)
        old = self._bucket.get(key)
        standing = metadata.read_header(old)
        if standing.attempt == report.attempt:
            return standing
        if info is None or standing.attempt != attempt:
            raise Superseded(_superseded(key, attempt, standing.attempt))
        merged = metadata.merge(old, report.metadata)
        crash.point("replace.put")
        try:
            self._put(key, merged, if_match=info.etag if self._conditional else None)
        except PreconditionFailed:
            now = metadata.read_header(self._bucket.get(key))
            if now.attempt != report.attempt:
                raise Superseded(_superseded(key, attempt, now.attempt)) from None
        crash.point("replace.done")
        return metadata.read_header(merged)

    def _put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> None:
        try:
            self._bucket.put(key, data, if_absent=if_absent, if_match=if_match, fence=self._lease.require)
        except PreconditionFailed:
            raise
        except StorageError:  # it may land yet
            self._lease.is_in_doubt = True
            raise

    def _standing(self, key: str) -> ShardHeader | None:
        try:
            return metadata.read_header(self._bucket.get(key))
        except NotFound:
            return None

    def _require_files(self, report: ShardReport) -> None:
        found = self._sizes([file.file for file in report.files])
        for file in report.files:
            size = found.get(file.file)
            if size != file.bytes:
                message = f"{file.file} was written with {file.bytes} bytes, the store has {size or 'none'}"
                raise DataMissing(Problem("LM1314", message, where=self._bucket.url))

    def _sizes(self, files: list[str]) -> dict[str, int]:
        """Of those that are there. A tar is looked at, and many files are listed, as each is the cheapest."""
        if len(files) == 1:
            info = self._bucket.head(files[0])
            return {info.key: info.size} if info else {}
        folders = {file.rpartition("/")[0] + "/" for file in files}
        return {info.key: info.size for folder in folders for info in self._bucket.list(folder)}


def _superseded(key: str, expected: str, found: str) -> Problem:
    return Problem(
        "LM1315",
        f"{key} is now of attempt {found}, not of {expected}: somebody else has replaced it",
        help="run `lightmill retry` again",
    )
