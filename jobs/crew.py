"""Crew: the workers of a run. How many each lane has, who of them gets the next shard, and who goes.

Whatever is decided here for every shard costs the same however many workers there are: those with room are kept apart.
"""

import time
from collections.abc import Callable, Collection

from actors.recipe import LaneRecipe
from actors.records import Beat, Shard, ShardOrder
from jobs import tail
from jobs.bench import Bench
from jobs.dispatch import Dispatch
from jobs.headcount import Headcount
from jobs.pool import WorkerPool
from jobs.seat import Making, Node, Seat
from jobs.tail import Move

STORE_SECONDS = 5.0
"""Kept free, before a machine is taken away, for the upload and the commit of what has been generated there."""
EVEN_SECONDS = 0.2
"""How often idle workers are looked after for which nothing is left to hand out: it takes a look at every worker."""


class Crew:
    """Workers are asked for as long as there are shards for them; `seats` has them by their names."""

    def __init__(
        self,
        pool: WorkerPool,
        dispatch: Dispatch,
        recipes: tuple[LaneRecipe, ...],
        headcount: Headcount,
        say: Callable[[str], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool = pool
        self._dispatch = dispatch
        self._recipes = recipes
        self._headcount = headcount
        self._say = say
        self._now = now
        self._benches = [Bench() for _ in recipes]
        self._evened = 0.0
        self._retired: set[str] = set()
        self.seats: dict[str, Seat] = {}
        self.left_out: Collection[str] = ()
        """Machines that get no worker."""

    @property
    def ready(self) -> int:
        """How many workers have loaded their model."""
        return sum(bench.ready for bench in self._benches)

    def employ(self) -> None:
        """Ask for workers where there is work for more, hand it out, and let go of those that are in the way."""
        self._see_off()
        self._recruit()
        for lane, bench in enumerate(self._benches):
            self._hand_out(lane, bench)
        if self._now() - self._evened >= EVEN_SECONDS:
            self._evened = self._now()
            self._even_out()

    def is_ready(self, worker: str) -> None:
        """The worker has loaded its model."""
        seat = self.seats[worker]
        seat.ready = True
        if not seat.retired:
            self._benches[seat.lane].loading -= 1
        self._file(worker)

    def beat(self, worker: str, shard: Shard, beat: Beat) -> bool:
        """The worker has a word on a shard: whether it is one that it has in hand."""
        seat = self.seats[worker]
        if shard.index not in seat.making:
            return False
        seat.beat(shard.index, beat, self._now())
        self._file(worker)
        return True

    def made(self, worker: str, shard: Shard) -> bool:
        """The worker has made a shard: whether it is the first to. Nobody else needs to, from now on."""
        seat = self.seats[worker]
        if not self.put_down(worker, shard):
            return False
        seat.committing.add(shard.index)
        self._file(worker)
        if self._dispatch.is_twice(shard.index):
            for other in [name for name, seat in self.seats.items() if shard.index in seat.making]:
                self._drop(other, shard)
        return True

    def committed(self, worker: str, shard: Shard) -> None:
        """What the worker has made is committed, or will not be."""
        if worker in self.seats:
            self.seats[worker].committing.discard(shard.index)
            self._file(worker)

    def put_down(self, worker: str, shard: Shard) -> bool:
        """The worker is no longer at work on a shard: whether it had it in hand."""
        found = self.seats[worker].making.pop(shard.index, None)
        self._file(worker)
        return found is not None

    def leave(self, worker: str) -> Seat:
        """The worker is gone; its seat, as it left it."""
        seat = self.seats.pop(worker)
        self._retired.discard(worker)
        if not seat.retired:
            self._benches[seat.lane].leave(worker, seat)
        return seat

    def ready_in(self, lane: int) -> int:
        """How many workers of the lane have loaded its model, and are there."""
        return self._benches[lane].ready

    def may_work(self, lane: int) -> bool:
        """Whether one has, or is loading it and was asked for before any had failed: those that came after would be
        waited for without end."""
        loading = (seat for seat in self.seats.values() if seat.lane == lane and seat.node and not seat.ready)
        return self.ready_in(lane) > 0 or not all(seat.is_successor for seat in loading)

    def retire(self, node: Node) -> list[str]:
        """The machine gets no more shards: its workers, which are let go once they have finished what they can. The
        rest is for others."""
        workers = [worker for worker, seat in self.seats.items() if seat.node is node]
        for worker in workers:
            seat = self.seats[worker]
            if not seat.retired:
                self._benches[seat.lane].leave(worker, seat)
            seat.retired = True
            self._retired.add(worker)
        return workers

    def _see_off(self) -> None:
        """Retired workers put down what they have not begun, or will not end in time, and go once they have nothing."""
        for worker in list(self._retired):
            seat = self.seats[worker]
            for making in list(seat.making.values()):
                if making.announced is None or self._is_too_late(seat, making):
                    self._drop(worker, making.shard)
                    self._say(f"shard {making.shard.index} goes from worker {worker}, which has to go, to another one")
            if not seat.in_hand:
                self.leave(worker)
                self._pool.end(worker)
                self._say(f"worker {worker} has put everything away, and goes")

    def _is_too_late(self, seat: Seat, making: Making) -> bool:
        """Whether a shard that is being generated will not be stored before its worker is taken away."""
        until = seat.node.until if seat.node else None
        if until is None or making.is_generated:
            return False
        pace = making.pace or seat.pace or 0.0
        return self._now() + making.seconds_left(pace, self._now()) + STORE_SECONDS > until

    def _file(self, worker: str) -> None:
        seat = self.seats[worker]
        self._benches[seat.lane].file(worker, seat)

    def _recruit(self) -> None:
        """One for each shard that nobody is free for; who is still to come, is.

        All are asked for at once. Where a cluster has no room for all of them, it seats them in this order: so lanes
        take turns, each as often as it has work left.
        """
        wanted = [
            min(self._headcount.most(lane) - bench.seated, self._dispatch.waiting(lane) - bench.free)
            for lane, bench in enumerate(self._benches)
        ]
        while any(number > 0 for number in wanted):
            lane = max((lane for lane, number in enumerate(wanted) if number > 0), key=self._work_per_worker)
            wanted[lane] -= 1
            seat = Seat(lane, is_successor=self._headcount.is_failing(lane))
            self.seats[self._pool.start(self._recipes[lane], self.left_out)] = seat
            self._benches[lane].join()

    def _work_per_worker(self, lane: int) -> float:
        """If the lane had one worker more."""
        return self._dispatch.waiting(lane) / (self._benches[lane].seated + 1)

    def _hand_out(self, lane: int, bench: Bench) -> None:
        """First everyone one shard for the device, then everyone a second while there are enough for all, so that near
        the end nobody queues while another idles."""
        idle, busy = bench.with_room
        while idle and self._assign(lane, next(iter(idle))):
            pass
        while busy and self._dispatch.waiting(lane) >= bench.seated:
            self._assign(lane, next(iter(busy)))

    def _assign(self, lane: int, worker: str) -> bool:
        order = self._dispatch.next(lane)
        if order is None:
            return False
        self._give(worker, order)
        return True

    def _give(self, worker: str, order: ShardOrder) -> None:
        shard = order.shard
        self.seats[worker].making[shard.index] = Making(shard, self._dispatch.images(shard.index))
        self._file(worker)
        self._pool.assign(worker, order)

    def _even_out(self) -> None:
        """Where workers idle: give them what others have not begun, let them go to make room for another lane, or let
        them make once more what ends last."""
        lanes = [lane for lane, bench in enumerate(self._benches) if any(bench.with_room[0])]
        lanes = [lane for lane in lanes if not self._dispatch.waiting(lane)]
        for lane in lanes:
            for move in list(tail.moves(self.seats, lane, self._now())):
                self._take_over(move)
        if lanes:
            self._make_room()
        for lane in lanes:
            if self._dispatch.is_handed_out(lane):
                for move in list(tail.copies(self.seats, lane, self._now(), self._dispatch.may_be_twice)):
                    self._copy(lane, move)

    def _take_over(self, move: Move) -> None:
        shard = self.seats[move.holder].making[move.shard].shard
        self._drop(move.holder, shard)
        self._say(f"shard {shard.index} goes from worker {move.holder}, which has not begun it, to {move.worker}")
        self._assign(shard.lane, move.worker)

    def _copy(self, lane: int, move: Move) -> None:
        self._say(f"shard {move.shard} is made by worker {move.worker} too: {move.holder} is expected to take longer")
        self._give(move.worker, self._dispatch.again(move.shard))

    def _drop(self, worker: str, shard: Shard) -> None:
        """Let a worker make no more of a shard, which is for another one."""
        self.put_down(worker, shard)
        self._pool.drop(worker, shard)
        self._dispatch.give_back(shard)

    def _make_room(self) -> None:
        """Let go of workers with nothing to do, while another lane has work and waits for a worker: what it waits for
        may be the very GPU that they hold, or would get before it. Those that wait for one go first, or they would get
        that of the others, and load their model for nothing."""
        waits = [bench.loading > 0 and self._dispatch.waiting(lane) > 0 for lane, bench in enumerate(self._benches)]
        for worker, seat in sorted(self.seats.items(), key=lambda item: item[1].ready):
            others = any(waits[: seat.lane]) or any(waits[seat.lane + 1 :])
            if others and not seat.in_hand and not self._dispatch.waiting(seat.lane):
                self.leave(worker)
                self._pool.end(worker)
                self._say(f"worker {worker} has nothing to do, and makes room for another lane")
