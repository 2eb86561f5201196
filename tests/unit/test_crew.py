"""Which lane gets how many of the places that a cluster has. On simulated time."""

from collections import Counter

import pytest

from jobs.plan import Plan
from paced_pool import PacedPool, drive_paced

IMAGES = 20
"""Of a shard: they take as many seconds."""
LOAD = 5.0
NEAR_IDEAL = 1.15


def plan_of(*shards):
    return Plan(tuple(IMAGES * number for number in shards), IMAGES, 1)


def seated(pool):
    """By lane, those that have a place when the first model is loaded."""
    found = Counter()

    def watch():
        if not found and any(worker.ready for worker in pool.workers.values()):
            found.update(worker.lane for worker in pool.workers.values() if worker.node)

    pool.watch = watch
    return found


@pytest.mark.parametrize(
    ("shards", "room", "expected"),
    [
        ((30, 10), 4, {0: 3, 1: 1}),
        ((10, 30), 4, {0: 1, 1: 3}),
        ((20, 20), 4, {0: 2, 1: 2}),
        ((99, 1), 4, {0: 4}),
        ((40, 20, 20), 8, {0: 4, 1: 2, 2: 2}),
    ],
)
def test_models_share_a_cluster_by_the_work_that_they_have_left(shards, room, expected):
    pool = PacedPool([1.0], room=room)
    found = seated(pool)
    drive_paced(pool, plan_of(*shards), (room,) * len(shards))
    assert found == expected


@pytest.mark.parametrize("shards", [(30, 10), (39, 1), (20, 20), (24, 12, 12)])
@pytest.mark.parametrize("dear", [1.0, 4.0])
def test_no_place_is_empty_while_any_model_has_work(shards, dear):
    """Also where the images of one model take longer, which nobody knows before."""
    plan = plan_of(*shards)
    costs = [dear if plan.shard(index).lane == 0 else 1.0 for index in range(plan.shards)]
    pool = PacedPool([1.0], costs.__getitem__, room=4)
    drive_paced(pool, plan, (4,) * len(shards))
    assert pool.seconds <= NEAR_IDEAL * (LOAD + IMAGES * sum(costs) / 4)


def test_all_workers_are_asked_for_at_once():
    pool = PacedPool([1.0], room=1)
    seen = []
    pool.watch = lambda: seen.append(len(pool.started))
    drive_paced(pool, plan_of(6, 30), (3, 5))
    assert seen[0] == 8


def test_work_begins_with_the_first_worker_that_is_ready():
    pool = PacedPool([1.0], room=1)
    drive_paced(pool, plan_of(4), (4,))
    assert set(pool.given.values()) == {1}
    assert pool.seconds == pytest.approx(LOAD + 4 * IMAGES + 0.5, abs=0.5)


def test_those_that_wait_for_a_place_go_before_the_one_that_has_it():
    """Or they would get it, and load a model that has nothing left to do."""
    pool, ended = PacedPool([0.005], room=1), []
    end = pool.end

    def noted(worker):
        ended.append((pool.workers[worker].lane, pool.workers[worker].ready))
        end(worker)

    pool.end = noted
    drive_paced(pool, plan_of(2, 2), (2, 2))
    assert ended[:2] == [(0, False), (0, True)]
