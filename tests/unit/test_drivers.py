"""Several drivers on one output, each a process of its own: at once, or one after a frozen one."""

import os
import re
import signal
import time

import pytest

from processes import wait_until
from runners import Job, Runner

TTL = 3.0
"""Seconds, of a lease in these tests; all that depends on it is as much shorter."""


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    runner = Runner(tmp_path_factory.mktemp("runner"))
    yield runner
    runner.end()


@pytest.mark.parametrize("kind", ["strong", "racy", "ignoring"])
def test_of_two_drivers_one_drives_and_the_other_says_who(runner, tmp_path, kind):
    job = Job(tmp_path, kind, model="fake:pace=0.05")
    together = time.time() + 0.2

    statuses = runner.do(job.task(wait=together), job.task(wait=together + 0.03))

    assert sorted(statuses) == [0, 1]
    driver = re.search(r"^(\d+) end 0$", job.noted(), re.M)[1]
    refusal = re.search(
        r"^(\d+) error LM1311 .* is being driven by `lightmill run`, process (\d+) on", job.noted(), re.M
    )
    assert refusal[1] != driver == refusal[2]
    assert len(job.made()) == 1
    job.assert_sound()


@pytest.mark.parametrize("kind", ["strong", "ignoring"])
@pytest.mark.parametrize("meanwhile", ["run", "retry", "clean"])
def test_a_driver_that_was_frozen_past_its_lease_changes_nothing(runner, tmp_path, kind, meanwhile):
    job = Job(tmp_path, kind, model="fake:pace=0.03,fail=boom", ttl=TTL)
    frozen = runner.start(job.task())
    wait_until(lambda: len(job.committed()) >= 2, 20, "two committed shards")
    pid = int(job.noted().split()[0])
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(TTL * 1.2)
        assert runner.do(job.task(meanwhile)) == [0]
        between = objects(job)
    finally:
        os.kill(pid, signal.SIGCONT)

    assert runner.status(frozen) == 1
    assert f"{pid} error LM1310" in job.noted()
    after = objects(job)
    assert {key: after[key] for key in between} == between
    assert runner.do(job.task()) == [0]
    job.assert_sound()


def objects(job):
    """All that counts in the output, and which write made it what it is."""
    return {
        info.key: info.etag
        for info in job.bucket.list()
        if info.key.startswith(("metadata/", "images/", "index", "shards", "README", "manifest", "status"))
    }
