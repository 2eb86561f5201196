"""A submitted job whose driver dies, and whose cluster is lost as a whole."""

from contextlib import ExitStack
from random import Random

import pytest

from checker import check
from fleet import fleet, kill_driver, kill_head, slow_model, submit_again
from mill import make_job

pytestmark = pytest.mark.xdist_group("fleet")
CATS = [f"a cat, number {number}" for number in range(1_600)]
TWICE = 2


@pytest.mark.timeout(900)
def test_a_job_outlives_its_drivers_and_its_clusters(moto_store, tmp_path):
    """The same submission goes on with it, and a dead worker costs two shards at most."""
    model = slow_model(tmp_path, 0.1)
    job = make_job(tmp_path, CATS, output=f"{moto_store.url}/out", model=model, workers={"min": 1, "max": 1})
    with ExitStack() as stack:
        another = lambda: stack.enter_context(fleet(tmp_path, machines=0))  # noqa: E731
        submit_again(job, another(), [kill_driver] * TWICE + [kill_head(another)] * TWICE, Random(1))
    check(job.as_uploaded())
    assert job.made_again() <= 2 * (TWICE + TWICE)
