"""Two stages on a real Ray cluster with one GPU, which both want for themselves; and a kill in between."""

import pytest

from checker import check
from mill import make_job
from servers.raycluster import ray_cluster

pytestmark = pytest.mark.xdist_group("stages")
CATS = [f"a cat, number {number}" for number in range(24)]


def test_two_stages_share_one_gpu_and_go_on_after_a_kill(tmp_path):
    """Ray believes in the GPU; the models do not, and compute where they can."""
    alone = {"workers": {"min": 1, "max": 1}, "gpus_per_worker": 1, "batch_size": 4}
    first = {"model": "fake:pace=0.05", "width": 32, "height": 32, **alone}
    second = {"model": "tiny", "num_inference_steps": 2, **alone}
    job = make_job(tmp_path, CATS, stages=[first, second], shard_size=4)
    with ray_cluster(tmp_path, gpus=1) as cluster:
        address = ("--address", cluster.address)
        with job.start(*address, env=cluster.environment) as run:
            run.wait_until_painted(12)
            run.child.kill()
            run.wait_until_gone()
        with job.start(*address, "--json", env=cluster.environment) as run:
            assert run.end()["totals"]["ok"] == 2 * len(CATS)
    assert check(job).ok == 2 * len(CATS)
