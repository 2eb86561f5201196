"""Device: what computes, with a model on it and threads of its own, so that it need not wait between batches."""

import faulthandler
import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from actors import crash
from actors.clock import DEVICE, Clock
from actors.models.model import ImageModel, Images
from actors.records import Batch, ImageRequest

_log = logging.getLogger(__name__)
_STDERR = 2
"""By its number: `sys.stderr` may be anything where Ray or a test has put it aside."""


@dataclass(frozen=True, slots=True)
class Painted:
    """A batch that came back from the device."""

    images: Images
    seconds: float
    """Of the device, for the whole forward pass."""


@dataclass(frozen=True, slots=True)
class Painting:
    """A batch on its way."""

    launched: Future[tuple[float, Callable[[], Images]]]
    collected: Future[Painted]

    def result(self) -> Painted:
        """Wait for it. Raises what the model raised."""
        return self.collected.result()

    def drop(self) -> None:
        """When this returns it has come to its end, or never begins."""
        if not self.launched.cancel():
            self.collected.exception()


class Device:
    """Batches go through it one after the other, in the order in which they are given.

    One thread gives them to it and another takes them back, so that a GPU has the next one before it is done with one.
    """

    def __init__(self, load: Callable[[], ImageModel], clock: Clock, batch_timeout_seconds: float) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="device")
        self._collector = ThreadPoolExecutor(1, thread_name_prefix="collect")
        self._clock = clock
        self._deadline = _Deadline(batch_timeout_seconds)
        self._room: dict[tuple[int, int, int], int] = {}
        self._is_fresh = True
        # On its own thread from the start: how many threads torch computes with is a matter of each thread.
        with clock.measure("load"):
            self._model = self._thread.submit(load).result()
        with clock.measure("warm_up"):
            self._thread.submit(self._model.warm_up).result()
        self.info = self._model.info

    def counted(self, requests: Iterable[ImageRequest]) -> tuple[ImageRequest, ...]:
        """As the model does it, beside what is on the device."""
        return self._model.counted(requests)

    def paint(self, batch: Batch, ahead: Iterable[ImageRequest] = ()) -> Painting:
        """Queue the batch; some of the requests that come after it are `ahead`.

        A batch that is not done in time ends the process: the timer is a C thread, so it fires whatever the model is
        stuck in, and leaves the stacks of all threads on stderr.
        """
        launched = self._thread.submit(self._launch, batch, ahead)
        return Painting(launched, self._collector.submit(self._collect, launched))

    def rehearse(self, batch: Batch) -> None:
        """Paint it for nobody, in whatever time it takes, as compiling is no sign of being stuck. Raises as the model
        does."""
        with self._clock.measure("warm_up"):
            self._thread.submit(self._made, batch).result()

    def try_out(self, batch: Batch) -> float:
        """Paint it for nobody: the seconds that such a batch would take in the model's own number of steps. Raises as
        the model does.

        Nothing is compiled for it: that takes a minute, and a model that has seen several sizes is compiled for all of
        them, and slower.
        """

        def paint() -> float:
            began = time.monotonic()
            with self._model.uncompiled():
                seconds = self._made(batch).seconds
            if not seconds:
                return time.monotonic() - began
            times = self.info.num_inference_steps / batch.requests[0].num_inference_steps
            return sum(seconds.values()) + seconds.get("denoise", 0.0) * (times - 1)

        with self._clock.measure("warm_up"):
            return self._thread.submit(paint).result()

    def _made(self, batch: Batch) -> Images:
        """At once, with nothing else on the device."""
        return self._model.launch(batch)()

    def room(self, batch: Batch) -> int:
        """The largest batch of such images that may fit: what is known since the device last ran out of memory."""
        return self._room.get(_size(batch), batch.size)

    def ran_out(self, batch: Batch) -> None:
        """Remember, for as long as this process lives, that the batch did not fit.

        One larger than the room that is known by now was already on its way, and says nothing new.
        """
        if batch.size <= self.room(batch):
            self._room[_size(batch)] = max(1, batch.size // 2)

    def _launch(self, batch: Batch, ahead: Iterable[ImageRequest]) -> tuple[float, Callable[[], Images]]:
        crash.point("worker.batch")
        self._begin()
        try:
            return time.monotonic(), self._model.launch(batch, ahead)
        except BaseException:
            self._end()
            raise

    def _collect(self, launched: Future[tuple[float, Callable[[], Images]]]) -> Painted:
        began, wait = launched.result()
        try:
            images = wait()
        finally:
            self._end()
        self._clock.divide_device(images.seconds)
        if self._is_fresh:
            self._is_fresh = False
            _log.info("the first images, %.1f s after the worker began", self._clock.seconds)
        return Painted(images, sum(images.seconds.values()) or time.monotonic() - began)

    def _begin(self) -> None:
        self._clock.begin(DEVICE)
        self._deadline.begin()

    def _end(self) -> None:
        self._deadline.end()
        self._clock.end(DEVICE)


class _Deadline:
    """Of whatever has been on the device longest: it is set anew when one is done, since only then the next begins."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._pending = 0

    def begin(self) -> None:
        with self._lock:
            self._pending += 1
            if self._pending == 1:
                self._set()

    def end(self) -> None:
        with self._lock:
            self._pending -= 1
            if self._pending:
                self._set()
            else:
                faulthandler.cancel_dump_traceback_later()

    def _set(self) -> None:
        faulthandler.dump_traceback_later(self._seconds, exit=True, file=_STDERR)


def _size(batch: Batch) -> tuple[int, int, int]:
    first = batch.requests[0]
    return first.width, first.height, first.chunks
