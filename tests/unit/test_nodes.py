"""Machines that are taken away, and machines that fail again and again. On simulated time."""

import time
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray._private.state import GlobalState, state

from actors.errors import InputError, Problem, RunError
from actors.models.model import ModelInfo
from jobs.catalog import Catalog
from jobs.crew import Crew
from jobs.dispatch import Dispatch
from jobs.drain import draining
from jobs.events import Broke, Ready
from jobs.headcount import FAILURES, Headcount
from jobs.nodes import LEFT_OUT
from jobs.plan import Plan
from paced_pool import PacedPool, drive_paced

IMAGES = 20
"""Of a shard: they take as many seconds."""


def plan_of(shards):
    return Plan((IMAGES * shards,), IMAGES, 1)


def test_a_machine_that_goes_soon_gives_its_shards_back_at_once_and_gets_no_new_one():
    pool = PacedPool([1.0], nodes=2, drains={12.0: ("node1", 10.0)})
    _, leash = drive_paced(pool, plan_of(8), (2,))
    assert "machine node1 (node1) is taken away in 10 s: 0001 have to go" in leash.said
    assert "worker 0001 has put everything away, and goes" in leash.said
    assert sum("which has to go, to another one" in text for text in leash.said) == 2
    assert not any("died" in text for text in leash.said)
    assert pool.busy[0] <= IMAGES * 8 + 8 + 4  # what it had made of one, and the rest of that batch
    assert {worker.node for worker in pool.workers.values()} == {"node0"}
    assert len(pool.workers) == 2  # another one was asked for


def test_a_machine_that_goes_later_finishes_what_it_is_at():
    pool = PacedPool([1.0], nodes=2, drains={12.0: ("node1", 30.0)})
    _, leash = drive_paced(pool, plan_of(8), (2,))
    assert "worker 0001 has put everything away, and goes" in leash.said
    assert sum("which has to go, to another one" in text for text in leash.said) == 1  # that it had not begun
    assert pool.busy[0] == IMAGES * 8


def test_a_worker_that_turns_out_to_be_too_slow_gives_its_shard_back_before_the_end():
    pool = PacedPool([1.0, 5.0], nodes=2, drains={6.0: ("node1", 60.0)})
    _, leash = drive_paced(pool, plan_of(2), (2,))
    assert not any("died" in text for text in leash.said)
    assert pool.seconds < 60


@given(
    drains=st.dictionaries(
        st.floats(0, 150), st.tuples(st.sampled_from(["node1", "node2", "node3"]), st.floats(0, 60)), max_size=3
    ),
    deaths=st.dictionaries(st.floats(0, 150), st.integers(0, 9), max_size=5),
)
def test_whatever_is_taken_away_every_shard_is_committed_once(drains, deaths):
    once = {node: (second, seconds) for second, (node, seconds) in drains.items()}
    drains = {second: (node, seconds) for node, (second, seconds) in once.items()}
    pool = PacedPool([1.0, 2.0], nodes=4, drains=drains, deaths=deaths)
    drive_paced(pool, plan_of(20), (4,))


class Brittle(PacedPool):
    """On these machines a worker loads its model, and dies with its first batch."""

    def _loaded(self, worker):
        worker.ready = not worker.gone
        return [Ready(worker.name, ModelInfo(model="paced"))] if worker.ready else []

    def _next_batch(self, worker):
        return self._die(worker.name) if worker.node in self._sick else super()._next_batch(worker)


@pytest.mark.parametrize("kind", [PacedPool, Brittle], ids=["while it loads", "with its first batch"])
def test_a_machine_that_fails_again_and_again_is_left_out_and_that_is_said(kind):
    pool = kind([1.0], nodes=3, sick={"node1"})
    _, leash = drive_paced(pool, plan_of(30), (3,))
    (said,) = [text for text in leash.said if "is left out" in text]
    assert said.startswith(f"machine node1 (node1) is left out: {LEFT_OUT} times in a row its workers failed")
    assert leash.status_seen["left_out"] == ["node1 (node1)"]
    assert sum("died" in text for text in leash.said) == LEFT_OUT
    assert {worker.node for worker in pool.workers.values()} == {"node0", "node2"}
    assert len(pool.workers) == 3


def test_a_machine_whose_workers_die_now_and_then_is_not_left_out():
    deaths = {float(second): number for number, second in enumerate(range(60, 360, 40), 1)}
    pool = PacedPool([1.0], nodes=2, deaths=deaths)
    _, leash = drive_paced(pool, plan_of(40), (2,))
    assert sum("died" in text for text in leash.said) >= LEFT_OUT
    assert not any("left out" in text for text in leash.said)


def test_the_only_machine_is_not_left_out():
    pool = PacedPool([1.0], deaths={8.0 + 12 * number: number for number in range(6)})
    _, leash = drive_paced(pool, plan_of(2), (1,))
    assert sum("died" in text for text in leash.said) == 6
    assert not any("left out" in text for text in leash.said)


@pytest.mark.parametrize("nodes", [1, 3])
def test_where_nobody_can_load_the_model_the_job_is_given_up(nodes):
    pool = PacedPool([1.0], nodes=nodes, sick={f"node{number}" for number in range(nodes)})
    with pytest.raises(RunError, match="LM1609"):
        drive_paced(pool, plan_of(30), (nodes,))
    assert pool.given.total() == 0
    assert len(pool.started) <= FAILURES * nodes + nodes


class Unable(PacedPool):
    """On these machines a model cannot be loaded, and the worker says so."""

    def _loaded(self, worker):
        if worker.node in self._sick and not worker.gone:
            return [Broke(worker.name, None, InputError(Problem("LM1202", "no such folder")))]
        worker.ready = not worker.gone
        return [Ready(worker.name, ModelInfo(model="paced"))] if worker.ready else []


def test_a_machine_that_cannot_load_what_others_can_is_left_out():
    pool = Unable([1.0], nodes=3, sick={"node0"})
    _, leash = drive_paced(pool, plan_of(30), (3,))
    assert sum("could not load its model" in text for text in leash.said) == LEFT_OUT
    assert any("machine node0 (node0) is left out" in text for text in leash.said)


@pytest.mark.parametrize("nodes", [1, 3])
def test_a_model_that_nobody_can_load_ends_the_job(nodes):
    pool = Unable([1.0], nodes=nodes, sick={"node0", "node1", "node2"})
    with pytest.raises(InputError, match="LM1202"):
        drive_paced(pool, plan_of(30), (nodes,))
    assert len(pool.started) <= 2 * nodes


class SickGpu(PacedPool):
    """One machine with four GPUs, of which the first is sick: whoever gets it says so in no time."""

    GOOD = ("0001", "0002", "0003")

    def _time_to_load(self, worker):
        return 5.0 if worker.name in self.GOOD else 0.5

    def _loaded(self, worker):
        worker.ready = not worker.gone and worker.name in self.GOOD
        if worker.ready:
            return [Ready(worker.name, ModelInfo(model="paced"))]
        return [] if worker.gone else self._fail(worker)

    def _fail(self, worker):
        return [Broke(worker.name, None, InputError(Problem("LM1205", "CUDA error: device unavailable")))]


class DeadlyGpu(SickGpu):
    """Or dies of it."""

    def _fail(self, worker):
        return self._die(worker.name)


@pytest.mark.parametrize("kind", [SickGpu, DeadlyGpu])
def test_one_gpu_of_several_that_spoils_every_worker_gets_no_more(kind):
    pool = kind([1.0])
    _, leash = drive_paced(pool, plan_of(30), (4,))
    assert sum("has 3 workers from now on" in text for text in leash.said) == 1
    assert not any("left out" in text for text in leash.said)
    assert len(pool.started) < 20  # until the others had loaded, and three more
    assert pool.seconds < 250  # 200 for three workers


@pytest.mark.parametrize("kind", [SickGpu, DeadlyGpu])
def test_where_all_gpus_are_sick_the_job_ends(kind, monkeypatch):
    monkeypatch.setattr(kind, "GOOD", ())
    pool = kind([1.0])
    with pytest.raises((InputError, RunError), match=r"LM1205|LM1609"):
        drive_paced(pool, plan_of(30), (4,))
    assert len(pool.started) <= 4 + 2 * FAILURES


def test_a_machine_that_is_left_out_takes_no_worker_of_the_others_with_it():
    pool = PacedPool([1.0], nodes=2, sick={"node1"})
    _, leash = drive_paced(pool, plan_of(60), (4,))
    assert any("machine node1 (node1) is left out" in text for text in leash.said)
    assert {worker.node for worker in pool.workers.values()} == {"node0"}
    assert len(pool.workers) == 4


def test_less_is_asked_for_only_for_the_time_being():
    plan = plan_of(30)
    recipes = (SimpleNamespace(lane=0),)
    headcount = Headcount((4,))
    crew = Crew(PacedPool([1.0]), Dispatch(plan, Catalog(plan.shards), 3), recipes, headcount, print)
    assert (headcount.one_less(0, ready=1), headcount.one_less(0, ready=1)) == (3, 2)
    crew.employ()
    assert len(crew.seats) == 2
    headcount.restore()
    crew.employ()
    assert len(crew.seats) == 4


def test_a_notice_is_read_as_ray_gives_it(monkeypatch):
    deadlines = {"a": int((time.time() + 30) * 1000), "b": 0}
    monkeypatch.setattr(state, "get_draining_nodes", lambda: deadlines)
    assert draining() == {"a": pytest.approx(30, abs=2), "b": None}


def test_a_ray_that_gives_no_notice_ends_no_run(monkeypatch):
    monkeypatch.delattr(GlobalState, "get_draining_nodes")
    assert draining() == {}
