"""Crew: the workers of a run. How many each lane has, who of them gets the next shard, and who goes."""

from collections import Counter
from collections.abc import Callable

from actors.recipe import LaneRecipe
from jobs.dispatch import Dispatch
from jobs.pool import WorkerPool
from jobs.seat import Seat

IN_HAND = 2
"""Shards a worker has at once: one denoising, one uploading or being committed. So many are lost, at most, when it or
the driver dies."""


class Crew:
    """Workers are asked for as long as there are shards for them; `seats` has them by their names."""

    def __init__(
        self,
        pool: WorkerPool,
        dispatch: Dispatch,
        recipes: tuple[LaneRecipe, ...],
        workers: tuple[int, ...],
        say: Callable[[str], None],
    ) -> None:
        """`workers`: how many each lane may have."""
        self._pool = pool
        self._dispatch = dispatch
        self._recipes = recipes
        self._workers = workers
        self._say = say
        self.seats: dict[str, Seat] = {}

    @property
    def ready(self) -> int:
        """How many workers have loaded their model."""
        return sum(seat.ready for seat in self.seats.values())

    def employ(self) -> None:
        """Ask for workers where there is work for more, hand it out, and let go of those that are in the way."""
        self._recruit()
        self._hand_out()
        self._make_room()

    def _recruit(self) -> None:
        """One for each shard that nobody is free for; who is still to come, is."""
        seated = Counter(seat.lane for seat in self.seats.values())
        free = Counter(seat.lane for seat in self.seats.values() if not seat.in_hand)
        for lane, recipe in enumerate(self._recipes):
            for _ in range(min(self._workers[lane] - seated[lane], self._dispatch.waiting(lane) - free[lane])):
                self.seats[self._pool.start(recipe)] = Seat(lane)

    def _hand_out(self) -> None:
        """First everyone one shard, then everyone a second, so that near the end nobody queues while another idles."""
        seated = Counter(seat.lane for seat in self.seats.values())
        for depth in range(IN_HAND):
            for worker, seat in self.seats.items():
                enough = self._dispatch.waiting(seat.lane) >= (seated[seat.lane] if depth else 1)
                if seat.ready and seat.in_hand == depth and enough:
                    self._assign(worker, seat)

    def _assign(self, worker: str, seat: Seat) -> None:
        order = self._dispatch.next(seat.lane)
        if order is not None:
            seat.announced[order.shard.index] = None
            self._pool.assign(worker, order)

    def _make_room(self) -> None:
        """Let go of workers with nothing to do, while another lane has work and waits for a worker: what it waits for
        may be the very GPU that they hold, or would get before it."""
        short = {seat.lane for seat in self.seats.values() if not seat.ready and self._dispatch.waiting(seat.lane)}
        if not short:
            return
        for worker, seat in list(self.seats.items()):
            if not seat.in_hand and not self._dispatch.waiting(seat.lane) and short - {seat.lane}:
                del self.seats[worker]
                self._pool.end(worker)
                self._say(f"worker {worker} has nothing to do, and makes room for another lane")
