"""Runs on a cluster whose machines come and go, and which is watched."""

import re
import urllib.request

import pytest

from actors.storage.opening import open_bucket
from checker import check
from fleet import hurry, lose_machines, paints, slow_model
from jobs.metrics import COUNTERS, GAUGES
from jobs.nodes import LEFT_OUT
from jobs.status import Status
from mill import START_S, make_job
from processes import wait_until
from servers.raycluster import RayCluster, RayNode, ray_cluster

pytestmark = pytest.mark.xdist_group("machines")
CATS = [f"a cat, number {number}" for number in range(600)]
METRICS = {f"ray_{name}_total" for name in COUNTERS} | {f"ray_{name}" for name in GAUGES}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> RayCluster:
    """A head that takes no work."""
    with ray_cluster(tmp_path_factory.mktemp("ray"), cpus=0) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def machine(cluster) -> RayNode:
    """One that stays."""
    with cluster.node() as machine:
        yield machine


@pytest.mark.timeout(600)
def test_machines_that_are_drained_or_die_cost_little_and_others_take_their_place(cluster, machine, tmp_path):
    job = make_job(tmp_path, CATS, model=slow_model(tmp_path, 1), gpus_per_worker=1, batch_size=1, shard_size=8)
    losses = ["drained", "killed"] * 2
    address = ("--address", cluster.address)
    with cluster.node() as another, job.start(*address, env=cluster.environment) as run:
        wait_until(lambda: paints(job, machine), START_S, f"the one that stays to work: {run.child}")
        lose_machines(run, cluster, [another], losses)
    check(job)
    assert job.made_again() <= 2 * losses.count("killed")


def test_a_machine_on_which_every_worker_dies_is_left_out(cluster, machine, tmp_path):
    job = make_job(tmp_path, CATS, model=slow_model(tmp_path, 1), gpus_per_worker=1, batch_size=1)
    with cluster.node(LIGHTMILL_CRASH="worker.start:1") as sick:
        with job.start("--address", cluster.address, env=cluster.environment) as run:
            run.child.wait_for_line(rf"machine [\d.]+ \({sick.id[:8]}\) is left out: {LEFT_OUT} times", START_S)
            hurry(run)
            assert run.child.stderr.count(" died with ") >= LEFT_OUT
        assert sick.id[:8] in Status.load(open_bucket(job.output)).left_out[0]
    check(job)


def test_two_models_share_a_gpu_by_halves_and_a_run_can_be_watched(cluster, machine, tmp_path):
    half = {"width": 32, "height": 32, "gpus_per_worker": 0.5, "workers": {"max": 1}}
    models = [{"model": slow_model(tmp_path, pace), **half, "batch_size": 1} for pace in (1, 1.1)]
    job = make_job(tmp_path, CATS[:120], models=models, shard_size=4)
    with job.start("--address", cluster.address, env=cluster.environment) as run:
        wait_until(lambda: len({pid for _, pid in job.painted()}) == 2, START_S, f"both to paint: {run.child}")
        assert paints(job, machine)
        wait_until(lambda: exported(cluster) >= METRICS, START_S, f"{METRICS} at {cluster.metrics}")
        hurry(run)
    check(job)


def exported(cluster):
    """The names of what Prometheus gets."""
    with urllib.request.urlopen(cluster.metrics, timeout=10) as reply:
        return set(re.findall(r"^(ray_lightmill_\w+)\{", reply.read().decode(), re.M))
