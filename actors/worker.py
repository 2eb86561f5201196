"""Worker: one model in memory, one shard after the other. Plain Python; whoever wants it on a cluster wraps it."""

import dataclasses
import logging
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pyarrow as pa

from actors import crash, machine
from actors.batch_sizes import BatchSizes
from actors.batches import plan_batches
from actors.clock import Clock
from actors.device import Device
from actors.errors import Stopped
from actors.generation import Generation, stopped
from actors.input_files import InputFiles
from actors.inputs import InputReader
from actors.metadata import metadata_file
from actors.models.loading import load_lane
from actors.models.model import ModelInfo
from actors.models.tasks import refuse_as_later, refuse_without_inputs
from actors.orders import Assignment, resolve
from actors.parents import read_parents
from actors.recipe import LaneRecipe
from actors.records import Beat, Shard, ShardOrder, ShardReport
from actors.samples import SampleRows
from actors.storage.opening import open_bucket
from actors.tables.columns import use_columns
from actors.tables.prompt_filter import PromptFilter
from actors.tables.reader import TableReader
from actors.tables.references import References
from actors.warmup import warm_up
from actors.writer import ShardWriter

_log = logging.getLogger(__name__)

TURN_SECONDS = 0.5
"""How often a shard that waits for the device looks whether it is still wanted."""


class Worker:
    """Makes the shards of one lane.

    `run` may be called by two threads at once: they take turns at generating, so that one shard is being generated
    while the one before is still being uploaded. The other methods answer at any time.
    """

    def __init__(self, recipe: LaneRecipe, name: str) -> None:
        self._recipe = recipe
        self._name = name
        self._clock = Clock()
        self._turn = threading.Lock()
        self._reading = threading.Lock()
        self._stopping = threading.Event()
        self._dropped: set[int] = set()
        with ThreadPoolExecutor(1) as meanwhile:
            meanwhile.submit(pa.scalar, 0)  # with its first value it imports pandas, where that is installed: 0.3 s
            self._device = Device(lambda: load_lane(recipe), self._clock, recipe.batch_timeout_seconds)
        if recipe.stage:
            refuse_as_later(recipe.model.model, self._device.info.task)
        else:
            refuse_without_inputs(recipe.model.model, self._device.info.task, recipe.overrides)
        self._bucket = open_bucket(recipe.output, recipe.storage, wanted=self._is_wanted)
        references = References(recipe.table.uri, recipe.inputs.allow, recipe.inputs.folder)
        files = InputFiles(references, self._bucket, recipe.storage, self._is_wanted)
        self._inputs = InputReader(files, self._device.info)
        self._sizes = BatchSizes(recipe.model, self._device, self._inputs)
        if recipe.model.compile:
            warm_up(self._device, self._sizes)
        self._carried = _carried(recipe)
        self._reader = _reader(recipe, references)
        self._encoders = ThreadPoolExecutor(machine.processors(), thread_name_prefix="encode")

    def ready(self) -> ModelInfo:
        """The model is loaded; this is what is known of it."""
        return self._device.info

    def ping(self) -> None:
        """Return, which a frozen process does not."""

    def lap(self) -> dict[str, float]:
        """Its seconds since the last report, by cause: of one that is let go, those that no report has."""
        return self._clock.lap()

    def stop(self) -> None:
        """Let every `run` raise `Stopped` after the batch that is on the device, and leave nothing behind.

        One that has generated all goes on with its upload, while the store takes it: nothing is tried again from here.
        """
        self._stopping.set()

    def drop(self, shard: int) -> None:
        """Let the `run` of this shard raise `Stopped`: at once if it waits for its turn, else after the batch that is
        on the device. Somebody else makes it."""
        self._dropped.add(shard)

    def run(self, order: ShardOrder) -> Iterator[Beat | ShardReport]:
        """Make the shard: beats while it is being generated, and one report at the end.

        The consumer takes each item before this goes on. Leaving early, for whatever reason, aborts the uploads.
        """
        crash.point("worker.start")
        self._dropped.discard(order.shard.index)
        attempt = uuid.uuid4().hex[:12]
        _log.info("shard %d, attempt %s: begun", order.shard.index, attempt)
        rows = SampleRows(self._device.info, order.shard, attempt, self._name, self._recipe.stage)
        with self._clock.measure("other"), self._writer(order, attempt) as writer:
            assignment = self._read(order)
            with self._turn_for(order.shard):
                generation = self._generation(order, assignment, rows, writer)
                yield from generation.beats(self._clock, lambda: self._is_awaited(order.shard))
                crash.point("worker.generated")
            with self._clock.measure("prompts_wait"):
                yield generation.last_beat()
            report = self._report(order, attempt, generation, writer)
        _log.info("shard %d, attempt %s: %d rows, %d failed", order.shard.index, attempt, report.rows, report.failed)
        crash.point("worker.report")
        yield report

    def _read(self, order: ShardOrder) -> Assignment:
        shard = order.shard
        with self._reading, self._clock.measure("prompts_wait"):
            prompts = self._reader.read(shard.lane, shard.start, shard.stop)
            parents = read_parents(self._bucket, order.parents) if order.parents else None
            found = self._inputs.measured(resolve(order, prompts, self._recipe, self._device.info, parents))
            return dataclasses.replace(found, requests=self._device.counted(found.requests))

    @contextmanager
    def _turn_for(self, shard: Shard) -> Iterator[None]:
        """The device, once the shards before this one have been through; raises `Stopped` if it is not wanted then."""
        while not self._turn.acquire(timeout=TURN_SECONDS):
            if not self._is_awaited(shard):
                raise Stopped(stopped())
        try:
            yield
        finally:
            self._turn.release()

    def _is_awaited(self, shard: Shard) -> bool:
        return self._is_wanted() and shard.index not in self._dropped

    def _is_wanted(self) -> bool:
        return not self._stopping.is_set()

    def _writer(self, order: ShardOrder, attempt: str) -> ShardWriter:
        recipe = self._recipe
        return ShardWriter(
            self._bucket,
            order.shard,
            attempt,
            sink=recipe.sink,
            encoding=recipe.encoding,
            executor=self._encoders,
            carried=self._carried,
        )

    def _generation(
        self, order: ShardOrder, assignment: Assignment, rows: SampleRows, writer: ShardWriter
    ) -> Generation:
        batches = plan_batches(
            assignment.requests,
            self._sizes.of,
            alone=order.alone,
            only=assignment.wanted,
            filled=self._recipe.model.compile,
        )
        generation = Generation(self._recipe, self._device, batches, order.alone, self._inputs, rows, writer)
        for refusal in assignment.refused:
            generation.add_row(rows.refused(refusal))
        return generation

    def _report(self, order: ShardOrder, attempt: str, generation: Generation, writer: ShardWriter) -> ShardReport:
        with self._clock.held_back(lambda: writer.seconds):
            rows, files = writer.finish()
        metadata = metadata_file(rows, self._carried, shard=order.shard, attempt=attempt, files=files)
        states = [row["status"] for row in rows]
        return ShardReport(
            shard=order.shard,
            attempt=attempt,
            metadata=metadata,
            files=files,
            rows=len(rows),
            failed=states.count("failed"),
            filtered=states.count("filtered"),
            batch_size=generation.batch_size,
            seconds=self._clock.lap(),
        )


def _reader(recipe: LaneRecipe, references: References) -> TableReader:
    prompt_filter = PromptFilter(recipe.prompt_filter, recipe.blocked)
    return TableReader(recipe.table, recipe.columns, recipe.overrides, recipe.storage, prompt_filter, references)


def _carried(recipe: LaneRecipe) -> pa.Schema:
    """The columns of the user's table that go into the metadata as they are."""
    schema = recipe.table.schema
    use = use_columns(schema.names, recipe.columns, recipe.overrides)
    return pa.schema([schema.field(name) for name in use.carried])
