"""Driver: hands shards to workers until every one is committed."""

import logging
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from actors.errors import InputError, LightmillError, Problem, RunError, Stopped, StorageError
from actors.metadata import ShardHeader
from actors.recipe import LaneRecipe
from actors.records import Shard, ShardReport
from jobs.catalog import Catalog
from jobs.commit import Committer, DataMissing
from jobs.crew import Crew
from jobs.dispatch import Dispatch, suspects_of
from jobs.events import Beaten, Broke, Died, Event, Made, Ready
from jobs.fidelity import Fidelity
from jobs.leash import Leash
from jobs.plan import Plan
from jobs.pool import WorkerPool
from jobs.retry import Rework
from jobs.seat import Seat
from jobs.status import Progress

_log = logging.getLogger(__name__)

COMMITTERS = 4
STILLBORN = 3
"""Workers of a lane that die in a row while they load their model, after which the job is given up."""
POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a driver drives: the promise, what exists of it, and the means to commit more."""

    plan: Plan
    recipes: tuple[LaneRecipe, ...]
    workers: tuple[int, ...]
    """How many workers each lane may have."""
    catalog: Catalog
    committer: Committer
    max_attempts: int
    fidelity: Fidelity = field(default_factory=Fidelity)
    """What was made with which weights."""
    rework: Mapping[int, Rework] | None = None
    """Of `retry`: the images to be made again, by shard; the catalog then counts all others as committed."""


class Driver:
    """The loop of one run. One thread decides; a few others wait for the store to take commits."""

    def __init__(
        self,
        work: Work,
        pool: WorkerPool,
        progress: Progress,
        leash: Leash,
    ) -> None:
        self._work = work
        self._pool = pool
        self._progress = progress
        self._leash = leash
        self._dispatch = Dispatch(work.plan, work.catalog, work.max_attempts, work.rework)
        self._crew = Crew(pool, self._dispatch, work.recipes, work.workers, self._say)
        self._stillborn = dict.fromkeys(range(len(work.recipes)), 0)
        self._committing: dict[int, Seat] = {}
        self._committed: SimpleQueue[tuple[ShardReport, Future[ShardHeader]]] = SimpleQueue()
        self._unheard: StorageError | None = None
        """Of a commit that was given up: it may still land."""

    def run(self) -> None:
        """Return once every shard is committed, or, when asked to stop, once all that was begun is put away.

        Raises the `LightmillError` that ended the run; what was committed stays. A stop that leaves a commit of which
        nobody knows raises what became of it, so that the lease is kept until no request can be on its way any more.
        """
        with ThreadPoolExecutor(COMMITTERS, thread_name_prefix="commit") as committers:
            told = False
            while not self._work.catalog.complete:
                if self._leash.stopping.is_set():
                    if not told:
                        self._pool.stop()
                        self._progress.state, told = "stopping", True
                    if not self._committing and not any(seat.has_begun for seat in self._crew.seats.values()):
                        if self._unheard:
                            raise self._unheard
                        return
                else:
                    self._crew.employ()
                    self._progress.workers_wanted = len(self._crew.seats)
                for event in self._pool.poll(POLL_SECONDS):
                    self._take(event, committers)
                self._settle()
                self._progress.workers = self._crew.ready
                self._progress.heartbeat(self._leash.status)

    def _say(self, text: str) -> None:
        _log.info(text)
        self._leash.say(text)

    def _take(self, event: Event, committers: ThreadPoolExecutor) -> None:
        match event:
            case Ready(worker, info):
                seat = self._crew.seats[worker]
                self._work.fidelity.require(self._work.recipes[seat.lane], info)
                seat.ready = True
                self._stillborn[seat.lane] = 0
                self._progress.running()
                self._say(f"worker {worker} is ready: {info.model} on {info.device}")
            case Beaten(worker, shard, beat):
                if shard.index in self._crew.seats[worker].announced:
                    self._crew.seats[worker].announced[shard.index] = beat.announced
                    self._progress.making(shard.index, beat.done, beat.failed)
            case Made(worker, report):
                self._made(worker, report, committers)
            case Broke(worker, shard, error):
                self._broke(worker, shard, error)
            case Died(worker, reason=reason):
                self._died(worker, reason)

    def _made(self, worker: str, report: ShardReport, committers: ThreadPoolExecutor) -> None:
        """Commit the first attempt of a shard that is finished, and no later one."""
        index, seat = report.shard.index, self._crew.seats[worker]
        if index not in seat.announced:
            self._say(f"shard {index} came once more, in attempt {report.attempt}, which is dropped")
            return
        del seat.announced[index]
        seat.committing.add(index)
        self._committing[index] = seat
        committers.submit(self._commit, report).add_done_callback(lambda future: self._committed.put((report, future)))

    def _commit(self, report: ShardReport) -> ShardHeader:
        rework = self._work.rework
        if rework is None:
            return self._work.committer.commit(report)
        return self._work.committer.replace(report, rework[report.shard.index].attempt)

    def _settle(self) -> None:
        """Take note of what the committers have done."""
        while True:
            try:
                report, future = self._committed.get_nowait()
            except Empty:
                return
            shard = report.shard
            self._committing.pop(shard.index).committing.discard(shard.index)
            try:
                header = future.result()
            except DataMissing as error:
                self._say(str(error))
                self._dispatch.broke(shard, error)
                continue
            except LightmillError as error:
                if not self._is_given_up(error):
                    raise
                self._say(f"nobody knows whether shard {shard.index} is committed: {error.problems[0].message}")
                self._unheard = StorageError(*error.problems)
                self._give_back(shard)
                continue
            if header.attempt != report.attempt:
                self._say(f"shard {shard.index} was committed by another attempt ({header.attempt}); ours is dropped")
            self._work.catalog.add(shard.index)
            self._dispatch.made(shard.index)
            self._progress.committed(
                shard.index,
                rows=report.rows,
                failed=report.failed,
                filtered=report.filtered,
                seconds=report.seconds,
            )

    def _broke(self, worker: str, shard: Shard | None, error: LightmillError) -> None:
        if shard is None:  # the model cannot be loaded, and will not be next time
            raise error
        if shard.index not in self._crew.seats[worker].announced:
            return  # it was made before
        del self._crew.seats[worker].announced[shard.index]
        if self._is_given_up(error):
            self._give_back(shard)
            return
        self._progress.dropped(shard.index)
        self._say(f"worker {worker} could not make shard {shard.index}: {error}")
        if isinstance(error, InputError):
            raise error
        self._dispatch.broke(shard, error)

    def _is_given_up(self, error: LightmillError) -> bool:
        """Whether this is what comes of a stop: then a store that is away is waited for no longer."""
        return isinstance(error, Stopped) or (isinstance(error, StorageError) and self._leash.stopping.is_set())

    def _give_back(self, shard: Shard) -> None:
        self._dispatch.give_back(shard)
        self._progress.dropped(shard.index)

    def _died(self, worker: str, reason: str) -> None:
        seat = self._crew.seats.pop(worker)
        self._say(f"worker {worker} died with {len(seat.announced)} shards in hand: {reason}")
        if not seat.ready:
            self._stillborn[seat.lane] += 1
            if self._stillborn[seat.lane] == STILLBORN:
                raise RunError(_stillborn(self._work.recipes[seat.lane].model.model, reason))
        struck = suspects_of(seat.announced)
        for index, announced in seat.announced.items():
            shard = self._work.plan.shard(index)
            self._progress.dropped(index)
            if index in struck:
                self._dispatch.struck(shard, announced or ())
            else:
                self._dispatch.give_back(shard)


def _stillborn(model: str, reason: str) -> Problem:
    return Problem(
        "LM1609",
        f"{STILLBORN} workers died while they loaded {model}",
        value=reason,
        help="see logs/ and the memory of the machine",
    )
