"""The end of a job: no worker idles while it could help, and nothing is made twice for nothing. On simulated time."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from actors.records import Beat, Shard
from jobs import tail
from jobs.plan import Plan
from jobs.seat import Making, Seat
from paced_pool import PacedPool, drive_paced

LOAD = 5.0
IMAGES = 20
"""Of a shard."""
SLOW = 5.0
"""How often longer the slow worker takes."""
NEAR_IDEAL = 1.15
SIZES = (1.0, 2.25, 4.0)
"""Seconds of an image of 512, 768 and 1024 pixels, if one of 512 takes one."""


def plan_of(shards, *lanes):
    return Plan(tuple(IMAGES * number for number in (shards, *lanes)), IMAGES, 1)


def ideal(pool, shards, paces, cost=lambda index: 1.0):
    """Seconds, if work could be divided as finely as one likes, and the last upload took none."""
    return LOAD + sum(IMAGES * cost(index) for index in range(shards)) / sum(1 / pace for pace in paces)


@pytest.mark.parametrize("shards", [40, 41, 42, 43, 67, 100])
@pytest.mark.parametrize("slow", range(4))
def test_with_one_slow_worker_of_four_a_job_ends_near_the_ideal_time(shards, slow):
    paces = [SLOW if number == slow else 1.0 for number in range(4)]
    pool = PacedPool(paces)
    drive_paced(pool, plan_of(shards), (4,))
    assert pool.seconds <= NEAR_IDEAL * ideal(pool, shards, paces)


@settings(max_examples=25)
@given(costs=st.lists(st.sampled_from(SIZES), min_size=200, max_size=220), slow=st.integers(0, 4))
def test_with_mixed_sizes_too(costs, slow):
    paces = [SLOW if number == slow else 1.0 for number in range(4)]
    pool = PacedPool(paces, costs.__getitem__)
    drive_paced(pool, plan_of(len(costs)), (4,))
    assert pool.seconds <= NEAR_IDEAL * ideal(pool, len(costs), paces, costs.__getitem__)


@pytest.mark.parametrize("shards", [1, 3, 4, 5, 7, 8, 30, 31])
def test_among_equals_nothing_is_made_twice(shards):
    pool = PacedPool([1.0] * 4)
    drive_paced(pool, plan_of(shards), (4,))
    assert sum(pool.busy.values()) == shards * IMAGES


def test_what_a_slow_worker_is_at_is_made_by_an_idle_one_too_and_committed_once():
    pool = PacedPool([SLOW, 1.0])
    _, leash = drive_paced(pool, plan_of(2), (2,))
    assert pool.given == {0: 2, 1: 1}
    assert pool.seconds == pytest.approx(LOAD + 2 * IMAGES + 0.5, abs=0.5)
    assert any("is made by worker 0001 too: 0000 is expected to take longer" in text for text in leash.said)


def test_an_idle_worker_gets_what_another_has_not_begun():
    costs = [4.0, 1.0, 1.0, 1.0]  # the first two are begun, and each has one behind
    pool = PacedPool([1.0, 1.0], costs.__getitem__)
    _, leash = drive_paced(pool, plan_of(4), (2,))
    assert any("goes from worker 0000, which has not begun it, to 0001" in text for text in leash.said)
    assert pool.seconds == pytest.approx(LOAD + 4 * IMAGES + 0.5, abs=0.5)
    assert pool.busy[0] == IMAGES * sum(costs)


@pytest.mark.parametrize(("pace", "moved"), [(0.5, [7]), (1.0, [7]), (None, [7]), (2.0, []), (SLOW, [])])
def test_a_worker_that_would_end_it_later_does_not_get_it(pace, moved):
    making = {index: Making(Shard(index, 0, 0, IMAGES), IMAGES) for index in (6, 7)}
    seats = {"busy": Seat(0, ready=True, making=making, pace=1.0), "idle": Seat(0, ready=True, pace=pace)}
    seats["busy"].beat(6, Beat(("a",), 0, 0), 0.0)
    seats["busy"].beat(6, Beat(("b",), 10, 0), 10.0)
    assert [move.shard for move in tail.moves(seats, 0, 10.0)] == moved


def test_no_worker_idles_while_another_has_a_queue():
    costs = [1.0, 3.0, 0.5, 2.0, 5.0] * 12
    pool = PacedPool([1.0] * 6, costs.__getitem__)
    since = {}

    def watch():
        queued = any(worker.queue for worker in pool.workers.values())
        for name, worker in pool.workers.items():
            if not (queued and worker.is_idle):
                since[name] = pool.seconds
            assert pool.seconds - since.get(name, pool.seconds) < 1.0, f"{name} idles"

    pool.watch = watch
    drive_paced(pool, plan_of(len(costs)), (6,))


@example([0.5, 0.5, 0.5, 0.5, 2.0], [1.0, 0.1, 0.1, 0.1, 0.1, 1.0, 0.1, 1.0, 1.0, 1.0], {}, 1, 5)
@given(
    paces=st.lists(st.sampled_from([0.5, 1.0, 1.0, 2.0, 5.0, 20.0]), min_size=1, max_size=6),
    costs=st.lists(st.sampled_from([0.1, 1.0, 3.0]), min_size=1, max_size=30),
    deaths=st.dictionaries(st.floats(5, 200), st.integers(0, 8), max_size=8),
    lanes=st.integers(1, 3),
    room=st.integers(1, 8),
)
def test_whoever_is_slow_or_dies_every_shard_is_committed_once(paces, costs, deaths, lanes, room):
    pool = PacedPool(paces, lambda index: costs[index % len(costs)], deaths=deaths, room=room)
    drive_paced(pool, plan_of(*[len(costs)] * lanes), (len(paces),) * lanes)
    assert max(pool.begun.values()) <= 2 + len(deaths)
    assert max(pool.given.values()) <= 3 + len(deaths)  # one is taken over before it is begun, and costs nothing


def test_a_lane_that_has_nothing_to_do_makes_room_before_it_makes_anything_twice():
    pool = PacedPool([SLOW, 1.0, 1.0, 1.0], room=2)
    _, leash = drive_paced(pool, plan_of(2, 4), (2, 2))
    assert any("makes room for another lane" in text for text in leash.said)
    assert pool.busy[0] <= IMAGES * (1 + SLOW)
