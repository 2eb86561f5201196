"""Tail: the end of a lane, when there are more workers than shards to hand out. What an idle one may still do.

The expectations are rough, and nothing depends on them but seconds: whoever finishes a shard first, it exists once.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from jobs.seat import Making, Seat

Seats = Mapping[str, Seat]

SURELY = 1.2
START_SECONDS = 2.0
"""A shard is made twice only where that seems to take so much less than waiting for it: what workers of the same kind
take differs by a tenth or two, and to begin takes a second."""


@dataclass(frozen=True, slots=True)
class Move:
    """A shard that an idle worker gets, of the one that has it in hand."""

    shard: int
    holder: str
    worker: str


def moves(seats: Seats, lane: int, now: float) -> Iterator[Move]:
    """Shards that wait behind others: each for the fastest idle worker, if that ends it sooner. First those which would
    end last."""
    idle = _idle(seats, lane)
    if not idle:
        return
    usual = _usual(seats, lane)
    waiting = []
    for name, seat in _of(seats, lane):
        pace = _pace(seat, usual)
        behind = 0.0
        for index, making in seat.making.items():
            end = behind + making.seconds_left(pace, now)
            if making.announced is None and behind:
                waiting.append((end, index, name, making.images * pace))
            behind = end
    for move, seconds, end in _matched(waiting, seats, idle, usual):
        if seconds < end:
            yield move


def copies(seats: Seats, lane: int, now: float, may_be_twice: Callable[[int], bool]) -> Iterator[Move]:
    """Shards that are being generated: each for the fastest idle worker, if that would make it again sooner than it
    ends. First those which end last."""
    idle = _idle(seats, lane)
    if not idle:
        return
    usual = _usual(seats, lane)
    making = []
    for name, seat in _of(seats, lane):
        pace = _pace(seat, usual)
        for index, shard in seat.making.items():
            if may_be_twice(index) and (left := shard.seconds_left(pace, now)):
                making.append((left, index, name, shard.images * (shard.pace or pace)))
    for move, seconds, end in _matched(making, seats, idle, usual):
        if SURELY * seconds + START_SECONDS < end:
            yield move


def _matched(
    shards: list[tuple[float, int, str, float]], seats: Seats, idle: list[str], usual: float
) -> Iterator[tuple[Move, float, float]]:
    """What could be moved, how long that would take, and when it is expected to end where it is. `shards`: that end,
    the index, who has it, and how long that one would take for all of it."""
    for (end, index, holder, seconds), worker in zip(sorted(shards, reverse=True), idle, strict=False):
        faster = _pace(seats[holder], usual) / _pace(seats[worker], usual)
        yield Move(index, holder, worker), seconds / faster, end


def _of(seats: Seats, lane: int) -> Iterable[tuple[str, Seat]]:
    return ((name, seat) for name, seat in seats.items() if seat.lane == lane)


def _idle(seats: Seats, lane: int) -> list[str]:
    """The fastest first; one of which nothing is known is taken to be as fast as any."""
    idle = [(seat.pace or 0.0, name) for name, seat in _of(seats, lane) if seat.is_idle]
    return [name for _, name in sorted(idle)]


def _usual(seats: Seats, lane: int) -> float:
    """Seconds an image takes on this lane; where nothing is known yet, any number does: only ratios count."""
    paces = [pace for _, seat in _of(seats, lane) for pace in [seat.pace or _current(seat)] if pace]
    return sum(paces) / len(paces) if paces else 1.0


def _pace(seat: Seat, usual: float) -> float:
    return seat.pace or _current(seat) or usual


def _current(seat: Seat) -> float | None:
    making: Iterable[Making] = seat.making.values()
    return next((shard.pace for shard in making if shard.pace), None)
