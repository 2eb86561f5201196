"""Bench: the workers of one lane, counted, with those apart that have room for another shard."""

from jobs.seat import Seat

IN_HAND = 2
"""Shards a worker has at once: one denoising, one uploading or being committed. So many are lost, at most, when it or
the driver dies."""


class Bench:
    """Kept up to date with every change of a seat, so that to hand out a shard takes no look at all workers."""

    def __init__(self) -> None:
        self.seated = 0
        """All workers of the lane."""
        self.loading = 0
        """Those that have not loaded their model yet."""
        self.with_room: tuple[dict[str, None], ...] = tuple({} for _ in range(IN_HAND))
        """Those that may get a shard, by how many their device has still to make."""

    @property
    def ready(self) -> int:
        """How many workers have loaded their model."""
        return self.seated - self.loading

    @property
    def free(self) -> int:
        """For how many shards somebody is there, or to come."""
        return self.loading + len(self.with_room[0])

    def join(self) -> None:
        """A worker was asked for."""
        self.seated += 1
        self.loading += 1

    def file(self, worker: str, seat: Seat) -> None:
        """Something about this worker has changed."""
        depth = seat.ahead if seat.ready and not seat.retired and seat.in_hand < IN_HAND else None
        for number, with_room in enumerate(self.with_room):
            if number == depth:
                with_room[worker] = None
            else:
                with_room.pop(worker, None)

    def leave(self, worker: str, seat: Seat) -> None:
        """A worker is gone, or counts no more."""
        self.seated -= 1
        self.loading -= not seat.ready
        for with_room in self.with_room:
            with_room.pop(worker, None)
