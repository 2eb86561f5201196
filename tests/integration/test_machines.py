"""Runs on a cluster whose machines come and go, and which is watched."""

import re
import urllib.request

import pytest

from actors.storage.opening import open_bucket
from checker import check
from fleet import lose_machines, paints
from jobs.metrics import COUNTERS, GAUGES
from jobs.nodes import LEFT_OUT
from jobs.status import Status
from mill import START_S, make_job
from processes import wait_until
from servers.raycluster import RayCluster, ray_cluster

pytestmark = pytest.mark.xdist_group("machines")
CATS = [f"a cat, number {number}" for number in range(1_200)]
METRICS = {f"ray_{name}_total" for name in COUNTERS} | {f"ray_{name}" for name in GAUGES}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> RayCluster:
    """A head that takes no work."""
    with ray_cluster(tmp_path_factory.mktemp("ray"), cpus=0) as cluster:
        yield cluster


@pytest.mark.timeout(600)
def test_machines_that_are_drained_or_die_cost_little_and_others_take_their_place(cluster, tmp_path):
    job = make_job(tmp_path, CATS, model="fake:pace=0.2", gpus_per_worker=1)
    losses = ["drained", "killed"] * 2
    address = ("--address", cluster.address)
    with cluster.node() as one, cluster.node() as two, job.start(*address, env=cluster.environment) as run:
        lose_machines(run, cluster, [one, two], losses)
    check(job)
    assert job.made_again() <= 2 * losses.count("killed")


def test_a_machine_on_which_every_worker_dies_is_left_out(cluster, tmp_path):
    job = make_job(tmp_path, CATS[:240], model="fake:pace=0.25", gpus_per_worker=1)
    with cluster.node(), cluster.node(LIGHTMILL_CRASH="worker.start:1") as sick:
        with job.start("--address", cluster.address, env=cluster.environment) as run:
            run.child.wait_for_line(rf"machine [\d.]+ \({sick.id[:8]}\) is left out: {LEFT_OUT} times", START_S)
            run.end()
            assert run.child.stderr.count(" died with ") >= LEFT_OUT
        assert sick.id[:8] in Status.load(open_bucket(job.output)).left_out[0]
    check(job)


def test_two_models_share_a_gpu_by_halves_and_a_run_can_be_watched(cluster, tmp_path):
    half = {"width": 32, "height": 32, "gpus_per_worker": 0.5, "workers": {"max": 1}}
    models = [{"model": "fake:pace=0.1", **half}, {"model": "fake:pace=0.11", **half}]
    job = make_job(tmp_path, CATS[:120], models=models)
    with cluster.node() as machine, job.start("--address", cluster.address, env=cluster.environment) as run:
        wait_until(lambda: len({pid for _, pid in job.painted()}) == 2, START_S, f"both to paint: {run.child}")
        assert paints(job, machine)
        wait_until(lambda: exported(cluster) >= METRICS, START_S, f"{METRICS} at {cluster.metrics}")
        run.end()
    check(job)


def exported(cluster):
    """The names of what Prometheus gets."""
    with urllib.request.urlopen(cluster.metrics, timeout=10) as reply:
        return set(re.findall(r"^(ray_lightmill_\w+)\{", reply.read().decode(), re.M))
