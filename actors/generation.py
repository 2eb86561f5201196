"""Generation: the images of one shard through the device, two batches at a time, and into the writer.

Nothing that goes wrong with an image ends the shard. A batch that raises is split until the bad request stands alone,
one that does not fit is made smaller, and a blank image gets one more seed.
"""

import dataclasses
import logging
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator
from itertools import chain, islice
from typing import Any

from actors.batches import fit, halve
from actors.blank import NOT_FINITE, find_blank
from actors.clock import Clock
from actors.device import Device, Painted, Painting
from actors.errors import OutOfMemory, Problem, Stopped
from actors.inputs import InputReader
from actors.models.model import Pixels
from actors.recipe import LaneRecipe
from actors.records import Batch, Beat, ImageRequest, Status
from actors.samples import SampleRows, with_problem
from actors.tables.seeds import derive_seed
from actors.writer import ShardWriter

_log = logging.getLogger(__name__)

IN_FLIGHT = 2
"""Batches given to the device: one on it, and one that it can begin with at once."""
AHEAD = 4
"""Batches of which the device knows the prompts beforehand."""


def stopped() -> Problem:
    """What is said of a shard that nobody waits for any more."""
    return Problem("LM1610", "stopped on request; the same command resumes the job")


class Generation:
    """What becomes of the batches of a shard."""

    def __init__(
        self,
        recipe: LaneRecipe,
        device: Device,
        batches: list[Batch],
        alone: Collection[str],
        inputs: InputReader,
        rows: SampleRows,
        writer: ShardWriter,
    ) -> None:
        self._recipe = recipe
        self._device = device
        self._todo = deque(batches)
        self._alone = alone
        self._inputs = inputs
        self._rows = rows
        self._writer = writer
        self._in_flight: deque[tuple[Batch, Painting]] = deque()
        self._counts: Counter[Status] = Counter()
        self.batch_size = 0
        """The largest batch that was computed."""

    def beats(self, clock: Clock, is_wanted: Callable[[], bool]) -> Iterator[Beat]:
        """Do it all. A batch is named in a beat before it goes on the device; raises `Stopped` after the batch that
        runs when it is not wanted any more."""
        try:
            while self._todo or self._in_flight:
                if self._may_submit():
                    with clock.measure("prompts_wait"):
                        batch = self._next()
                    if not batch.requests:
                        continue
                    with clock.measure("prompts_wait"):
                        yield self._beat(batch)
                    if not is_wanted():
                        raise Stopped(stopped())
                    self._in_flight.append((batch, self._device.paint(batch, self._ahead(batch))))
                else:
                    with clock.held_back(lambda: self._writer.seconds):
                        self._settle(*self._in_flight.popleft())
        finally:
            # Left early: what has not begun never does, and the device is free before anybody else's turn.
            for _, painting in reversed(self._in_flight):
                painting.drop()

    def add_row(self, row: dict[str, Any]) -> None:
        """A row without an image."""
        self._counts[row["status"]] += 1
        self._writer.add_row(row)

    def last_beat(self) -> Beat:
        """Nothing of the shard is on the device any more."""
        return Beat((), self._counts.total(), self._counts["failed"])

    def _beat(self, batch: Batch) -> Beat:
        batches = [*(batch for batch, _ in self._in_flight), batch]
        keys = tuple(request.key for batch in batches for request in batch.requests)
        return Beat(keys, self._counts.total(), self._counts["failed"])

    def _may_submit(self) -> bool:
        """Suspects have the device to themselves, so that a death with one of them on it blames no other image."""
        if not self._todo:
            return False
        if self._is_suspect(self._todo[0]) or any(self._is_suspect(batch) for batch, _ in self._in_flight):
            return not self._in_flight
        return len(self._in_flight) < IN_FLIGHT

    def _is_suspect(self, batch: Batch) -> bool:
        return len(batch.requests) == 1 and batch.requests[0].key in self._alone

    def _next(self) -> Batch:
        """With its inputs, and without requests that have none; perhaps nobody is left."""
        batch = self._todo.popleft()
        room = self._device.room(batch)
        if batch.size > room:
            batch, *rest = fit(batch, room)
            self._todo.extendleft(reversed(rest))
        batch, failed = self._inputs.attach(batch, self._todo[0] if self._todo else None)
        for request, problem in failed:
            self.add_row(self._rows.failed(request, problem))
        return batch

    def _ahead(self, batch: Batch) -> tuple[ImageRequest, ...]:
        """Some of the requests that come after the batch: no more than a text encoder could take with it.

        None with a batch that images are left out of, as of one that raised: those that come may be what is wrong. And
        none in a shard at which a worker died: it may have been the prompt of one that was to come, and those that are
        on the device with it are not to be blamed for it again.
        """
        if self._alone or len(batch.requests) < batch.size:
            return ()
        later = chain.from_iterable(batch.requests for batch in self._todo)
        return tuple(islice(later, AHEAD * batch.size))

    def _settle(self, batch: Batch, painting: Painting) -> None:
        try:
            painted = painting.result()
        except OutOfMemory as error:
            if batch.size == 1:
                self._fail(batch, error.problems[0])
            else:
                self._device.ran_out(batch)
                self._todo.appendleft(batch)
        except Exception as error:  # noqa: BLE001  models raise what they like, and it concerns one image of the batch
            _log.warning("a batch of %d raised", len(batch.requests), exc_info=error)
            if len(batch.requests) == 1:
                self._fail(batch, Problem("LM1603", f"the model raised {type(error).__name__}: {error}"))
            else:
                self._todo.extendleft(reversed(halve(batch)))
        else:
            self.batch_size = max(self.batch_size, batch.size)
            self._keep(batch, painted)

    def _fail(self, batch: Batch, problem: Problem) -> None:
        for request in batch.requests:
            self.add_row(self._rows.failed(request, problem, batch.size))

    def _keep(self, batch: Batch, painted: Painted) -> None:
        images = painted.images
        blank = find_blank(images)
        again = []
        for index, request in enumerate(batch.requests):
            reason = self._fault(blank[index])
            if reason and self._has_another_seed(request):
                again.append(self._with_next_seed(request))
                continue
            row = self._rows.made(request, batch.size, painted.seconds / batch.size, images, index)
            self._put(row, images.pixels[index], reason)
        if again:
            self._todo.appendleft(Batch(tuple(again), batch.size))

    def _put(self, row: dict[str, Any], pixels: Pixels, reason: str | None) -> None:
        flagged = self._recipe.policy.flagged
        if reason:
            seeds = "both seeds" if row["seed_rejected"] is not None else "its seed"
            self.add_row(with_problem(row, "failed", Problem("LM1601", f"the image is {reason} with {seeds}")))
        elif row["nsfw"] and flagged != "keep":
            problem = Problem("LM1605", "the model's safety checker flagged the image")
            self.add_row(with_problem(row, "failed" if flagged == "fail" else "filtered", problem))
        else:
            self._counts["ok"] += 1
            self._writer.add(row, pixels)

    def _fault(self, reason: str | None) -> str | None:
        """Why the image is not good enough for this job."""
        if reason == NOT_FINITE:
            return reason
        tolerated = self._recipe.checks.blank == "keep" or self._device.info.may_be_blank
        return None if tolerated else reason

    def _has_another_seed(self, request: ImageRequest) -> bool:
        """One, and not where the row says which seed it is to be."""
        asked_for = request.prompt.seed is not None or self._recipe.checks.blank == "keep"
        return request.seed_rejected is None and not asked_for

    def _with_next_seed(self, request: ImageRequest) -> ImageRequest:
        seed = derive_seed(self._recipe.seed, request.prompt.id, request.image_index, attempt=1)
        return dataclasses.replace(request, seed=seed, seed_rejected=request.seed)
