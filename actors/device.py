"""Device: the model and the one thread that uses it, with a deadline for every batch."""

import faulthandler
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from actors import crash
from actors.clock import Clock
from actors.models.model import ImageModel, Images
from actors.records import Batch, ImageRequest

_STDERR = 2
"""By its number: `sys.stderr` may be anything where Ray or a test has put it aside."""


@dataclass(frozen=True, slots=True)
class Painted:
    """A batch that came back from the device."""

    images: Images
    seconds: float
    """Of the whole forward pass."""


class Device:
    """Batches go through it one after the other, in the order in which they are given."""

    def __init__(self, load: Callable[[], ImageModel], clock: Clock, batch_timeout_seconds: float) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="device")
        self._clock = clock
        self._timeout = batch_timeout_seconds
        self._room: dict[tuple[int, int, int], int] = {}
        with clock.measure("load"):
            # On its own thread from the start: how many threads torch computes with is a matter of each thread.
            self._model = self._thread.submit(load).result()
        self.info = self._model.info

    def counted(self, requests: Iterable[ImageRequest]) -> tuple[ImageRequest, ...]:
        """As the model does it, beside what is on the device."""
        return self._model.counted(requests)

    def paint(self, batch: Batch) -> Future[Painted]:
        """Queue the batch. The future raises what the model raised.

        A batch that is not done in time ends the process: the timer is a C thread, so it fires whatever the model is
        stuck in, and leaves the stacks of all threads on stderr.
        """
        return self._thread.submit(self._paint, batch)

    def room(self, batch: Batch) -> int:
        """The largest batch of such images that may fit: what is known since the device last ran out of memory."""
        return self._room.get(_size(batch), batch.size)

    def ran_out(self, batch: Batch) -> None:
        """Remember, for as long as this process lives, that the batch did not fit.

        One larger than the room that is known by now was already on its way, and says nothing new.
        """
        if batch.size <= self.room(batch):
            self._room[_size(batch)] = max(1, batch.size // 2)

    def _paint(self, batch: Batch) -> Painted:
        crash.point("worker.batch")
        began = time.monotonic()
        with self._clock.measure("generate"), self._deadline():
            images = self._model.generate(batch)
        return Painted(images, time.monotonic() - began)

    @contextmanager
    def _deadline(self) -> Iterator[None]:
        faulthandler.dump_traceback_later(self._timeout, exit=True, file=_STDERR)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()


def _size(batch: Batch) -> tuple[int, int, int]:
    first = batch.requests[0]
    return first.width, first.height, first.chunks
