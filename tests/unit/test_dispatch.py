"""Dispatch: what is handed out again, and how, after a worker came to grief."""

import pytest

from actors.errors import Problem, RunError, StorageError
from jobs.catalog import Catalog
from jobs.dispatch import STRIKES, UNEXPLAINED, Dispatch, suspects_of
from jobs.plan import Plan
from jobs.retry import Rework

PLAN = Plan((6,), 2, 1)
MOST = 3


def dispatch(rework=None):
    return Dispatch(PLAN, Catalog(PLAN.shards), MOST, rework)


def test_each_shard_is_handed_out_once():
    todo = dispatch()
    assert [todo.next(0).shard.index for _ in range(3)] == [0, 1, 2]
    assert todo.next(0) is None


def test_a_shard_that_was_given_back_comes_before_new_ones_and_is_not_blamed():
    todo = dispatch()
    first = todo.next(0)
    todo.give_back(first.shard)
    assert todo.next(0) == first


def test_images_on_the_device_of_a_dead_worker_run_alone():
    todo = dispatch()
    todo.struck(todo.next(0).shard, ["a", "b"])
    again = todo.next(0)
    assert (again.shard.index, again.alone, again.condemned) == (0, {"a", "b"}, {})


def test_the_third_death_condemns_the_image_and_no_other():
    todo = dispatch()
    order = todo.next(0)
    todo.struck(order.shard, ["killer", "neighbour"])
    for _ in range(STRIKES - 1):
        todo.struck(order.shard, ["killer"])
    todo.next(0), todo.next(0)
    order = todo.next(0)
    assert order.alone == {"neighbour"}
    assert {key: problem.code for key, problem in order.condemned.items()} == {"killer": "LM1606"}
    assert order.verdict is None


def test_deaths_with_no_image_to_blame_take_longer_to_become_a_verdict_and_end_at_last():
    todo = dispatch()
    order = todo.next(0)
    todo.next(0), todo.next(0)
    for _ in range(UNEXPLAINED * MOST - 1):
        todo.struck(order.shard, [])
        order = todo.next(0)
        assert order.verdict is None
    todo.struck(order.shard, [])
    order = todo.next(0)
    assert order.verdict.code == "LM1607"
    with pytest.raises(RunError, match="LM1612"):
        for _ in range(UNEXPLAINED * MOST):
            todo.struck(order.shard, [])


def test_a_worker_that_says_what_is_wrong_is_believed_after_the_last_attempt():
    todo = dispatch()
    order = todo.next(0)
    todo.next(0), todo.next(0)
    error = RunError(Problem("LM1608", "it failed"))
    for _ in range(MOST):
        assert order.verdict is None
        todo.broke(order.shard, error)
        order = todo.next(0)
    assert order.verdict.code == "LM1607"


def test_what_the_store_refuses_again_and_again_ends_the_job():
    todo = dispatch()
    order = todo.next(0)
    error = StorageError(Problem("LM1309", "no"))
    for _ in range(MOST - 1):
        todo.broke(order.shard, error)
    with pytest.raises(StorageError, match="LM1309"):
        todo.broke(order.shard, error)


def test_a_shard_that_was_made_is_no_longer_in_trouble():
    todo = dispatch()
    order = todo.next(0)
    todo.struck(order.shard, ["a"])
    todo.made(todo.next(0).shard.index)
    todo.give_back(order.shard)
    assert not todo.next(0).alone


def test_a_retry_asks_for_the_images_it_is_about():
    todo = Dispatch(PLAN, Catalog.all_but({1}, PLAN.shards), MOST, {1: Rework(frozenset({"a"}), "0123")})
    assert todo.next(0).only == {"a"}


@pytest.mark.parametrize(
    ("announced", "suspects"),
    [
        ({1: ("a",), 2: (), 3: None}, {1}),
        ({1: (), 2: None}, {1}),
        ({1: None, 2: None}, {1, 2}),
        ({}, set()),
    ],
)
def test_of_a_dead_workers_shards_those_nearest_to_the_device_are_blamed(announced, suspects):
    assert suspects_of(announced) == suspects
