"""Logs: what driver and workers have to say, as JSON lines beside the data, so that they outlive the cluster."""

import json
import logging
import threading
import traceback
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from actors.errors import StorageError
from actors.storage.bucket import Bucket

FLUSH_SECONDS = 10.0
SEGMENT_BYTES = 1024 * 1024
"""A segment is put again whole each time it has grown, and followed by another when it is this large."""
LOGGERS = ("actors", "jobs")


class LogFile(logging.Handler):
    """`logs/<role>-<n>.jsonl`, for as long as it is entered: what the packages log at INFO and above.

    A store that does not take a log never stops the work: the lines stay for the next time.
    """

    def __init__(self, bucket: Bucket, role: str) -> None:
        super().__init__(logging.INFO)
        self._bucket = bucket
        self._role = role
        self._lines: list[str] = []
        self._number = 0
        self._dirty = False
        self._putting = threading.Lock()
        self._ending = threading.Event()
        self._flusher = threading.Thread(target=self._keep, name="logs", daemon=True)

    def __enter__(self) -> Self:
        self.begin()
        return self

    def begin(self) -> None:
        """Begin to keep what is logged."""
        self._number = sum(1 for _ in self._bucket.list(f"logs/{self._role}-"))
        for name in LOGGERS:
            logger = logging.getLogger(name)
            logger.addHandler(self)
            logger.setLevel(logging.INFO)
            logger.propagate = False
        self._flusher.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            logging.getLogger(__name__).error("ended by %s", "".join(traceback.format_exception_only(error)))
        self.finish()

    def finish(self) -> None:
        """Put the last lines."""
        for name in LOGGERS:
            logging.getLogger(name).removeHandler(self)
        self._ending.set()
        self._flusher.join()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line until the next flush."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        self._lines.append(json.dumps(line, ensure_ascii=False))
        self._dirty = True

    def flush(self) -> None:
        """Put what there is now; nothing once it is finished, as when Python flushes all handlers at its end."""
        if not self._ending.is_set():
            self._put()

    def _keep(self) -> None:
        while not self._ending.wait(FLUSH_SECONDS):
            self._put()
        self._put()

    def _put(self) -> None:
        with self._putting:
            if not self._dirty:
                return
            self._dirty = False
            lines = list(self._lines)
            data = "".join(f"{line}\n" for line in lines).encode()
            try:
                self._bucket.put(f"logs/{self._role}-{self._number:04d}.jsonl", data)
            except StorageError:
                self._dirty = True
                return
            if len(data) > SEGMENT_BYTES:
                del self._lines[: len(lines)]
                self._number += 1
