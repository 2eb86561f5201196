"""Status: how far a job is. The driver's heartbeat in the store, so that it can be read with no cluster alive."""

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, Literal, Self

from actors.errors import NotFound, StorageError
from actors.records import SCHEMA_VERSION
from actors.settings import Settings
from actors.storage.bucket import Bucket
from jobs.claims import Claim, Claims

_log = logging.getLogger(__name__)

KEY = "status.json"
WRITE_SECONDS = 5.0
TELL_SECONDS = 0.5
WINDOW_SECONDS = 60.0
"""Over which images per second are counted: long enough to smooth batches, short enough to follow a change."""

DRIVERS = ("run", "retry")
"""Purposes of a lease whose holder writes a heartbeat; `clean` does not."""
State = Literal["starting", "running", "stopping", "stopped", "finished", "failed"]


class Status(Settings):
    """`status.json`. Counts are images; of those, `done` have been made, whatever became of them."""

    schema_version: int = SCHEMA_VERSION
    name: str
    output: str
    state: State
    total: int
    done: int
    committed: int
    failed: int
    filtered: int
    images_per_second: float
    eta_seconds: float | None
    workers: int
    workers_wanted: int
    seconds: dict[str, float]
    """Of all workers together, by cause."""
    first_image_seconds: float | None = None
    """From the beginning of the run to the first image that came off a device."""
    started_at: datetime
    updated_at: datetime
    message: str = ""
    left_out: tuple[str, ...] = ()
    """Machines that failed again and again, and get no worker any more."""
    driver: str = ""
    """The token of the lease under which this was written."""
    submission: str = ""
    """By which a cluster knows the run, where it was submitted to one."""
    exit_code: int | None = None
    """Of a run that is over."""

    @classmethod
    def load(cls, bucket: Bucket) -> Self | None:
        """The last heartbeat, or None where no job has run. When it was written is by the store's own clock: the one of
        the driver's machine may be minutes off."""
        try:
            found = cls.model_validate_json(bucket.get(KEY))
        except NotFound:
            return None
        info = bucket.head(KEY)
        return found.model_copy(update={"updated_at": info.modified}) if info else found

    def successor(self, bucket: Bucket) -> Claim | None:
        """The claim of another driver that has begun since, or stands for the lease, and has not written a word yet."""
        begun = [claim for claim in Claims.read(bucket).others(self.driver).live if claim.holder.purpose in DRIVERS]
        return max(begun, key=lambda claim: claim.info.modified, default=None)


class Progress:
    """Counts what happens in this run, and writes the heartbeat in the background, never waiting for the store.

    `failed` and `filtered` are of this run alone: what earlier runs left is counted when the index is built.
    """

    def __init__(
        self,
        bucket: Bucket,
        name: str,
        total: int,
        committed: int,
        may_write: Callable[[], bool] = lambda: True,
        driver: str = "",
        submission: str = "",
    ) -> None:
        """`may_write`: whether this driver still is the one to speak for the output; `driver`: its lease's token."""
        self._bucket = bucket
        self._may_write = may_write
        self._name = name
        self._driver = driver
        self._submission = submission
        self._total = total
        self._committed = self._before = committed
        self._failed = 0
        self._filtered = 0
        self._begun = time.monotonic()
        self._first_image: float | None = None
        self._ready: float | None = None
        """When the first worker was: before that, Ray starts and models load."""
        self._in_hand: dict[int, tuple[int, int]] = {}
        self._seconds: Counter[str] = Counter()
        self._history: deque[tuple[float, int]] = deque()
        self._started = datetime.now(UTC)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="status")
        self._writing: Future[object] | None = None
        self._written = 0.0
        self._told = 0.0
        self._is_over = False
        self.state: State = "starting"
        self.message = ""
        self.left_out: tuple[str, ...] = ()
        self.exit_code: int | None = None
        self.workers = 0
        self.workers_wanted = 0

    def running(self) -> None:
        """A worker is ready."""
        if self.state == "starting":
            self.state = "running"
        self._ready = self._ready or time.monotonic()

    def making(self, shard: int, done: int, failed: int) -> None:
        """A shard that is not committed yet has come so far, in the hand of one worker; another may be ahead."""
        if done and self._first_image is None:
            self._first_image = round(time.monotonic() - self._begun, 3)
        self._in_hand[shard] = max(self._in_hand.get(shard, (0, 0)), (done, failed))

    def dropped(self, shard: int) -> None:
        """A shard came back unmade."""
        self._in_hand.pop(shard, None)

    def committed(self, shard: int, *, rows: int, failed: int, filtered: int, seconds: Mapping[str, float]) -> None:
        """A shard exists now."""
        self.dropped(shard)
        self._committed += rows
        self._failed += failed
        self._filtered += filtered
        self.spent(seconds)

    def spent(self, seconds: Mapping[str, float]) -> None:
        """Of workers, by cause."""
        self._seconds.update(seconds)

    def made(self) -> dict[str, Any]:
        """What this run made, how fast, and where its workers' seconds went."""
        images = self._committed - self._before
        now = time.monotonic()
        steady = images / (now - self._ready) if self._ready else None
        seconds = {cause: round(spent, 3) for cause, spent in self._seconds.items()}
        return {
            "made": images,
            "rate": images / (now - self._begun),
            "steady_rate": steady,
            "seconds": seconds,
            "first_image": self._first_image,
        }

    def status(self) -> Status:
        """The state of things now."""
        done = self._committed + sum(done for done, _ in self._in_hand.values())
        rate = self._rate(done)
        return Status(
            name=self._name,
            output=self._bucket.url,
            state=self.state,
            total=self._total,
            done=min(done, self._total),
            committed=self._committed,
            failed=self._failed + sum(failed for _, failed in self._in_hand.values()),
            filtered=self._filtered,
            images_per_second=round(rate, 3),
            eta_seconds=round((self._total - done) / rate, 1) if rate > 0 else None,
            workers=self.workers,
            workers_wanted=self.workers_wanted,
            seconds={cause: round(seconds, 3) for cause, seconds in sorted(self._seconds.items())},
            first_image_seconds=self._first_image,
            started_at=self._started,
            updated_at=datetime.now(UTC),
            message=self.message,
            left_out=self.left_out,
            driver=self._driver,
            submission=self._submission,
            exit_code=self.exit_code,
        )

    def heartbeat(self, tell: Callable[[Mapping[str, Any]], None]) -> None:
        """Tell how far things are, every half second, and write it where it can be read, every five."""
        if time.monotonic() - self._told >= TELL_SECONDS:
            self._told = time.monotonic()
            tell(self.status().model_dump(mode="json"))
        busy = self._writing is not None and not self._writing.done()
        if busy or time.monotonic() - self._written < WRITE_SECONDS:
            return
        self._written = time.monotonic()
        self._writing = self._writer.submit(self._write, self.status())

    def close(self) -> None:
        """Write the last word."""
        self._is_over = True
        self._writer.shutdown(wait=True)
        self._write(self.status())

    def _write(self, status: Status) -> None:
        if not self._may_write():
            return
        try:
            self._bucket.put(KEY, status.model_dump_json(indent=1).encode())
        except StorageError as error:  # it ends no run: what does will say so itself
            _log.warning("the heartbeat was not written: %s", error)

    def _rate(self, done: int) -> float:
        """Since the first worker was ready, or in the last minute; of a run that is over, in all of it."""
        if self._is_over:
            return float(self.made()["rate"])
        if self._ready is None:
            return 0.0
        now = time.monotonic()
        self._history.append((now, done))
        while now - self._history[0][0] > WINDOW_SECONDS:
            self._history.popleft()
        since, before = self._history[0]
        return (done - before) / (now - since) if now > since else 0.0
