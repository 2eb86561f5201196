"""Runs on a Ray cluster that is already there, and that asks for a token."""

import json
import platform

import pytest
import ray

from checker import check
from mill import GONE_S, PAINTER, make_job
from processes import lightmill, wait_until
from servers.raycluster import RayCluster, ray_cluster

pytestmark = pytest.mark.xdist_group("cluster")
CATS = [f"a cat, number {number}" for number in range(120)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> RayCluster:
    with ray_cluster(tmp_path_factory.mktemp("ray")) as cluster:
        yield cluster


def test_a_cluster_that_is_already_there_does_the_work(cluster, tmp_path):
    """Its workers go when the command line is killed, although it stays; the next run finishes the job."""
    job = make_job(tmp_path, CATS, model="fake:pace=0.05")
    address = ("--address", cluster.address)
    with job.start(*address, env=cluster.environment) as run:
        run.wait_until_painted(30)
        assert not run.painters()
        assert len(cluster.child.descendants(PAINTER)) == 2
        run.child.kill()
        run.wait_until_gone()
        wait_until(lambda: not cluster.child.descendants(PAINTER), GONE_S, "the workers to end")
    with job.start(*address, env=cluster.environment) as run:
        run.end()
    check(job)


@pytest.mark.parametrize("environment", [{"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "guessed"}, {}])
def test_without_its_token_a_cluster_does_nothing(cluster, tmp_path, environment):
    job = make_job(tmp_path, CATS)
    with job.start("--address", cluster.address, env=environment) as run:
        run.end(6)
    assert "LM1501" in run.child.stderr
    assert not job.painted()


def test_doctor_sees_its_versions_and_machines(cluster, spawn):
    child = spawn(lightmill("doctor", "--address", cluster.address, "--json"), env=cluster.environment)
    assert child.wait(GONE_S) == 0, child
    (part,) = [part for part in json.loads(child.stdout)["parts"] if part["part"] == cluster.address]
    facts = {fact["name"]: fact["value"] for fact in part["facts"]}
    assert facts == {"ray": ray.__version__, "python": platform.python_version(), "head": "127.0.0.1, 4 CPUs, 0 GPU"}


def test_doctor_without_its_token_is_told_so(cluster, spawn):
    wrong = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "guessed"}
    child = spawn(lightmill("doctor", "--address", cluster.address), env=wrong)
    assert child.wait(GONE_S) == 6, child
    assert "LM1501" in child.stderr
