"""Driver: hands shards to workers until every one is committed."""

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Any

from actors.errors import InputError, LightmillError, RunError, Stopped, StorageError
from actors.metadata import ShardHeader
from actors.records import Shard, ShardReport
from jobs.commit import DataMissing
from jobs.crew import Crew
from jobs.dispatch import Dispatch, suspects_of
from jobs.events import Beaten, Broke, Died, Event, Leaving, Made, Placed, Ready
from jobs.headcount import Headcount, hopeless
from jobs.leash import Leash
from jobs.nodes import LEFT_OUT, Nodes
from jobs.pool import WorkerPool
from jobs.seat import Seat
from jobs.status import Progress
from jobs.work import Work

_log = logging.getLogger(__name__)

COMMITTERS = 4
POLL_SECONDS = 0.05


class Driver:
    """The loop of one run. One thread decides; a few others wait for the store to take commits."""

    def __init__(
        self,
        work: Work,
        pool: WorkerPool,
        progress: Progress,
        leash: Leash,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._work = work
        self._pool = pool
        self._progress = progress
        self._leash = leash
        self._dispatch = Dispatch(work.plan, work.catalog, work.max_attempts, work.rework)
        self._headcount = Headcount(work.workers)
        self._crew = Crew(pool, self._dispatch, work.recipes, self._headcount, self._say, now)
        self._now = now
        self._nodes = Nodes(now)
        self._crew.left_out = self._nodes.left_out.keys()
        self._committing: dict[int, str] = {}
        """The shards that are, and who made them."""
        self._committed: SimpleQueue[tuple[ShardReport, Future[ShardHeader]]] = SimpleQueue()

    def run(self) -> None:
        """Return once every shard is committed, or, when asked to stop, once all that was begun is put away.

        Raises the `LightmillError` that ended the run; what was committed stays.
        """
        with ThreadPoolExecutor(COMMITTERS, thread_name_prefix="commit") as committers:
            told = False
            while not self._work.catalog.complete:
                if self._leash.stopping.is_set():
                    if not told:
                        self._pool.stop()
                        self._progress.state, told = "stopping", True
                    if not self._committing and not any(seat.has_begun for seat in self._crew.seats.values()):
                        return
                else:
                    self._crew.employ()
                    self._progress.workers_wanted = len(self._crew.seats)
                for event in self._pool.poll(POLL_SECONDS):
                    self._take(event, committers)
                self._settle()
                self._progress.workers = self._crew.ready
                self._progress.heartbeat(self._show)

    def _show(self, status: Mapping[str, Any]) -> None:
        self._leash.status(status)
        self._pool.show(status, sum(self._dispatch.waiting(lane) for lane in range(len(self._work.recipes))))

    def _say(self, text: str) -> None:
        _log.info(text)
        self._leash.say(text)

    def _take(self, event: Event, committers: ThreadPoolExecutor) -> None:
        match event:
            case Placed(worker, node, address):
                self._placed(worker, node, address)
            case Leaving(node, seconds):
                self._leaving(node, seconds)
            case Ready(worker, info):
                seat = self._crew.seats[worker]
                self._work.fidelity.require(self._work.recipes[seat.lane], info)
                self._crew.is_ready(worker)
                self._headcount.loaded(seat.lane)
                self._nodes.loaded(seat)
                self._progress.running()
                self._say(f"worker {worker} is ready: {info.model} on {info.device}")
            case Beaten(worker, shard, beat):
                if self._crew.beat(worker, shard, beat):
                    self._progress.making(shard.index, beat.done, beat.failed)
            case Made(worker, report):
                self._made(worker, report, committers)
            case Broke(worker, shard, error):
                self._broke(worker, shard, error)
            case Died(worker, reason):
                self._died(worker, reason)

    def _placed(self, worker: str, node: str, address: str) -> None:
        if not self._nodes.knows(node):
            self._headcount.restore()
        found = self._crew.seats[worker].node = self._nodes.find(node, address)
        if found.is_leaving or node in self._nodes.left_out:  # it was asked for before
            self._crew.retire(found)

    def _leaving(self, node: str, seconds: float | None) -> None:
        found = self._nodes.find(node)
        found.is_leaving, found.until = True, None if seconds is None else self._now() + seconds
        workers = self._crew.retire(found)
        if workers:
            when = "" if seconds is None else f" in {max(seconds, 0):.0f} s"
            self._say(f"machine {found} is taken away{when}: {', '.join(workers)} have to go")

    def _made(self, worker: str, report: ShardReport, committers: ThreadPoolExecutor) -> None:
        """Commit the first attempt of a shard that is finished, and no later one."""
        shard = report.shard
        if not self._crew.made(worker, shard):
            self._say(f"shard {shard.index} came once more, in attempt {report.attempt}, which is dropped")
            return
        self._committing[shard.index] = worker
        self._nodes.made(self._crew.seats[worker])
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
            self._crew.committed(self._committing.pop(shard.index), shard)
            try:
                header = future.result()
            except DataMissing as error:
                self._progress.dropped(shard.index)
                self._say(str(error))
                self._dispatch.broke(shard, error)
                continue
            except LightmillError as error:
                if not self._is_given_up(error):
                    raise
                self._say(f"nobody knows whether shard {shard.index} is committed: {error.problems[0].message}")
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
        if shard is None:  # the model cannot be loaded, and will not be next time, unless it is this machine's fault
            seat = self._crew.leave(worker)
            if not self._crew.may_work(seat.lane):
                raise error
            self._pool.end(worker)
            self._say(f"worker {worker} could not load its model: {error}")
            self._failed(seat, error.problems[0].message)
            return
        if not self._crew.put_down(worker, shard):
            return  # it was made before, or is made by another one
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
        seat = self._crew.leave(worker)
        self._say(f"worker {worker} died with {len(seat.announced)} shards in hand: {reason}")
        self._failed(seat, reason)
        struck = suspects_of(seat.announced)
        for index, announced in seat.announced.items():
            shard = self._work.plan.shard(index)
            self._progress.dropped(index)
            if index in struck:
                self._dispatch.struck(shard, announced or ())
            else:
                self._dispatch.give_back(shard)

    def _failed(self, seat: Seat, reason: str) -> None:
        """A worker came to an end that nobody asked for. Where one after the other does while it loads its model, and
        some have loaded it, a GPU may be sick, and gets no more; where none has, `RunError` is raised."""
        if seat.retired:
            return
        if not seat.ready:
            self._headcount.failed(seat.lane)
        if self._nodes.failed(seat) and seat.node:
            self._say(f"machine {seat.node} is left out: {LEFT_OUT} times in a row its workers failed: {reason}")
            self._progress.left_out = tuple(str(node) for node in self._nodes.left_out.values())
            self._crew.retire(seat.node)
            self._headcount.excuse(seat.lane)
        elif not seat.ready and self._headcount.is_hopeless(seat.lane, self._nodes.in_use):
            self._give_up_on_some(seat.lane, reason)

    def _give_up_on_some(self, lane: int, reason: str) -> None:
        """Workers of the lane fail to load its model again and again."""
        model = self._work.recipes[lane].model.model
        if ready := self._crew.ready_in(lane):
            most = self._headcount.one_less(lane, ready)
            self._say(f"{model} has {most} workers from now on: those that came after them could not load it: {reason}")
        elif not self._crew.may_work(lane):
            raise RunError(hopeless(model, reason))
