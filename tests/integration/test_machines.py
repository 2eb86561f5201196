"""Runs on a cluster whose machines come and go: one is taken away with a notice, one without, and one joins late."""

import re
import urllib.request

import pytest

from checker import check
from jobs.metrics import COUNTERS, GAUGES
from mill import GONE_S, PAINTER, START_S, make_job
from processes import wait_until
from servers.raycluster import RayCluster, ray_cluster

pytestmark = pytest.mark.xdist_group("cluster")
CATS = [f"a cat, number {number}" for number in range(240)]
PACE = "fake:pace=0.1"
NOTICE_S = 60
METRICS = {f"ray_{name}_total" for name in COUNTERS} | {f"ray_{name}" for name in GAUGES}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> RayCluster:
    """A head that takes no work."""
    with ray_cluster(tmp_path_factory.mktemp("ray"), cpus=0) as cluster:
        yield cluster


def two_workers(folder):
    return make_job(folder, CATS, model=PACE, gpus_per_worker=1)


def exported(cluster):
    """The names of what Prometheus gets."""
    with urllib.request.urlopen(cluster.metrics, timeout=10) as reply:
        return set(re.findall(r"^(ray_lightmill_\w+)\{", reply.read().decode(), re.M))


def paints(job, node):
    """Whether a worker on this machine has begun an image."""
    pids = {process.pid for process in node.child.descendants(PAINTER)}
    return any(pid in pids for _, pid in job.painted())


def test_a_machine_that_drains_or_dies_costs_little_and_another_takes_its_place(cluster, tmp_path):
    job = two_workers(tmp_path)
    with cluster.node() as first, cluster.node() as second:
        with job.start("--address", cluster.address, env=cluster.environment) as run:
            wait_until(lambda: paints(job, first) and paints(job, second), START_S, "both machines to paint")

            wait_until(lambda: exported(cluster) >= METRICS, START_S, f"{METRICS} at {cluster.metrics}")

            first.drain(NOTICE_S)
            run.child.wait_for_line(r"is taken away in \d+ s: 00-000[01] have to go", GONE_S)
            run.child.wait_for_line(r"worker 00-000[01] has put everything away, and goes", NOTICE_S)
            wait_until(lambda: not first.child.descendants(PAINTER), GONE_S, "its worker to end")
            assert "died" not in run.child.stderr
            assert job.made_again() == 0

            with cluster.node() as third:
                wait_until(lambda: paints(job, third), START_S, "the machine that joined to paint")
                second.kill()
                run.child.wait_for_line(r"worker 00-\d+ died with [12] shards in hand", START_S)
                run.end()
        check(job)
        assert job.made_again() <= 2
