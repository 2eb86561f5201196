"""Submitted jobs whose driver dies, and whose cluster is lost as a whole."""

from contextlib import ExitStack
from random import Random

import pytest

from checker import check
from fleet import fleet, kill_drivers, kill_heads
from mill import make_job

pytestmark = pytest.mark.xdist_group("fleet")
CATS = [f"a cat, number {number}" for number in range(240)]
TWICE = 2
WORKERS = 2


@pytest.mark.timeout(900)
def test_a_job_outlives_its_drivers_and_its_clusters(moto_store, tmp_path):
    """The same submission goes on with it, and a dead worker costs two shards at most."""
    first = make_job(tmp_path / "first", CATS, output=f"{moto_store.url}/first", model="fake:pace=0.1")
    second = make_job(tmp_path / "second", CATS, output=f"{moto_store.url}/second", model="fake:pace=0.1")
    with ExitStack() as stack:
        another = lambda: stack.enter_context(fleet(tmp_path, machines=0))  # noqa: E731
        ours = another()
        kill_drivers(first, ours, TWICE, Random(1))
        kill_heads(second, ours, TWICE, Random(2), another)
    for job in (first, second):
        check(job.as_uploaded())
        assert job.made_again() <= 2 * WORKERS * TWICE
