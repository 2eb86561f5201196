"""Stop: a request that a run end in an orderly way, left in the output, where its driver looks for it.

So whoever may write to the output can stop the run, from anywhere, whether or not its cluster can be reached.
"""

import logging
import threading
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from pydantic import ValidationError

from actors.errors import NotFound, StorageError
from actors.records import SCHEMA_VERSION
from actors.settings import Settings
from actors.storage.bucket import Bucket
from jobs.holder import Holder
from jobs.leash import Leash

_log = logging.getLogger(__name__)

KEY = "stop.json"
LOOK_SECONDS = 5.0
"""As often as the driver writes its heartbeat."""


class StopRequest(Settings):
    """`stop.json`. One that names another driver than the one at work is of the past, and means nothing."""

    schema_version: int = SCHEMA_VERSION
    driver: str
    """The token of the lease of the driver that is meant."""
    asked_at: datetime
    asked_by: str

    @classmethod
    def load(cls, bucket: Bucket) -> Self | None:
        """The last request; None where nobody has asked in words that are understood here."""
        try:
            return cls.model_validate_json(bucket.get(KEY))
        except (NotFound, ValidationError):
            return None


def ask_to_stop(bucket: Bucket, driver: str) -> None:
    """Ask the driver with this token to stop."""
    here = Holder.here("stop")
    request = StopRequest(driver=driver, asked_at=datetime.now(UTC), asked_by=str(here))
    bucket.put(KEY, request.model_dump_json(indent=1).encode())


class StopWatch:
    """Looks for a request as long as it is entered, and passes it on to the leash once."""

    def __init__(self, bucket: Bucket, driver: str, leash: Leash, look_seconds: float = LOOK_SECONDS) -> None:
        self._bucket = bucket
        self._driver = driver
        self._leash = leash
        self._look_seconds = look_seconds
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stop", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()  # it is waited for by nobody: a store that is away would keep it

    def _watch(self) -> None:
        while not self._ending.wait(self._look_seconds):
            try:
                request = StopRequest.load(self._bucket)
            except StorageError as error:
                _log.warning("nobody knows whether a stop was asked for: %s", error)
                continue
            if request and request.driver == self._driver:
                said = f"stopping after the batch that runs, as {request.asked_by} asked"
                _log.info(said)
                self._leash.say(said)
                self._leash.terminate()
                return
