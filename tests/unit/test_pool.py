"""The pool of workers on Ray: what becomes of a worker of which Ray says that something is wrong."""

import os
from types import SimpleNamespace

import pytest
from ray.exceptions import (
    ActorDiedError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RaySystemError,
    RayTaskError,
    WorkerCrashedError,
)

from actors.errors import Problem, RunError
from actors.models.model import ModelInfo
from actors.records import Beat, ShardOrder
from jobs import pool as pool_module
from jobs.actor import WorkerActor
from jobs.events import Beaten, Broke, Died, Placed, Ready
from jobs.plan import Plan
from jobs.pool import RayPool
from lanes import make_recipe

ORDER = ShardOrder(shard=Plan((4,), 4, 1).shard(0))


class Call:
    """What Ray gives for a call, with what is going to come of it."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def __next__(self):
        return self


class Method:
    def __init__(self, *answers):
        self._call = Call(*answers)

    def options(self, **_):
        return self

    def remote(self, *_):
        return self._call


def get(call):
    answer = call.answers.pop(0)
    if isinstance(answer, Exception):
        raise answer
    return answer


def wait(calls, num_returns=1, timeout=None, fetch_local=True):
    return [call for call in calls if call.answers], [call for call in calls if not call.answers]


@pytest.fixture
def begun(monkeypatch):
    """A pool with a worker that has been given a shard, what is to come of that, and whom it has killed."""
    killed, run = [], Method(Beat((), 0, 0))
    actor = SimpleNamespace(where=Method(("node", "10.0.0.1")), ready=Method(ModelInfo(model="fake")), run=run)
    monkeypatch.setattr(pool_module, "ray", SimpleNamespace(get=get, wait=wait, kill=killed.append))
    monkeypatch.setattr(pool_module, "hire", lambda *_: actor)
    monkeypatch.setattr(pool_module, "draining", dict)
    monkeypatch.setattr(pool_module, "PING_SECONDS", float("inf"))
    pool = RayPool(60, None)
    name = pool.start(SimpleNamespace(lane=0), ())
    assert [type(event) for event in pool.poll(0)] == [Placed, Ready]
    pool.assign(name, ORDER)
    assert [type(event) for event in pool.poll(0)] == [Beaten]
    return pool, run.remote().answers, killed


@pytest.mark.parametrize(
    "error",
    [
        ActorDiedError(),
        WorkerCrashedError(),
        OutOfMemoryError("the memory monitor killed it"),
        NodeDiedError("the machine is gone"),
        ObjectLostError("00" * 28, None, ""),
        RaySystemError("something else"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_of_whatever_ray_raises_the_worker_is_gone(begun, error):
    pool, answers, killed = begun
    answers.append(error)

    (died,) = pool.poll(0)

    assert type(died) is Died
    assert len(killed) == 1  # or it might live, and be in nobody's hand
    assert list(pool.poll(0)) == []


def test_what_the_worker_raised_itself_it_survives(begun):
    pool, answers, killed = begun
    answers.append(RayTaskError("run", "", RunError(Problem("LM1603", "no"))))

    (broke,) = pool.poll(0)

    assert (type(broke), broke.shard, broke.error.code, killed) == (Broke, ORDER.shard, "LM1603", [])


@pytest.mark.parametrize(("share", "left"), [(None, ""), (0.0, ""), (0.5, "3"), (1.0, "3")])
def test_a_worker_that_was_given_no_gpu_sees_none(tmp_path, monkeypatch, share, left):
    """Ray leaves the variable as it is where a worker has none: all of the machine's would be its own."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    recipe = make_recipe(tmp_path, ["a fox"], gpus_per_worker=share)
    worker = WorkerActor(recipe, "w0")
    worker.ready()
    worker.leave()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == left
