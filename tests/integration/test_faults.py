"""Workers and drivers that are killed, frozen or hung, with real Ray: nothing is lost, and nothing made twice."""

import time

import pytest

from checker import check
from mill import GONE_S, RUN_S, START_S, make_job
from processes import wait_until

CATS = [f"a cat, number {number}" for number in range(240)]
PATIENT = {"max_failed_share": 1.0, "batch_timeout_seconds": 8}
"""Seconds after which a worker that says nothing, or does not finish a batch of a few milliseconds, is ended."""


EXPIRY_S = 33
"""After the last renewal of a lease: it lasts 30 s, and clocks may differ by 2."""


def key(row, image=0, lane=0):
    return f"{row:012d}-{image:04d}-{lane:02d}"


def test_killed_workers_cost_at_most_two_shards_each(tmp_path):
    job = make_job(tmp_path, CATS, model="fake:pace=0.03")
    with job.start() as run:
        killed = {run.kill_painter() for _ in range(3)}
        run.end()
    assert len(killed) == 3
    assert 1 <= job.made_again() <= 2 * len(killed)
    check(job)


def test_rows_that_kill_or_hang_their_worker_are_failed_rows_and_the_others_finish(tmp_path):
    rows = [*CATS[:80]]
    rows[7], rows[33] = "poison", "more poison"
    rows[50], rows[61] = "stuck", "stuck again"
    job = make_job(
        tmp_path,
        rows,
        model="fake:kill=poison,hang=stuck",
        workers={"min": 3, "max": 3},
        limits={**PATIENT, "max_failed_share": 0.05},
    )
    with job.start("--json") as run:
        outcome = run.end(timeout_s=2 * RUN_S)
    assert outcome["totals"]["failed"] == 4
    check(job, {key(row): "LM1606" for row in (7, 33, 50, 61)})
    painted = [name for name, _ in job.painted()]
    assert [painted.count(key(row)) for row in (7, 33, 50, 61)] == [3] * 4


def test_more_failures_than_allowed_are_exit_status_4(tmp_path):
    job = make_job(tmp_path, [*CATS[:20], "boom"], model="fake:fail=boom", limits={"max_failed_share": 0.01})
    with job.start() as run:
        run.end(4)
    check(job, {key(20): "LM1603"})


@pytest.mark.parametrize("victim", ["driver", "command line"])
def test_a_killed_driver_is_resumed_at_once(tmp_path, victim):
    """With its workers, and Ray: nobody else ends them. The next run knows that process to be dead, and waits for no
    lease to expire."""
    job = make_job(tmp_path, CATS, model="fake:pace=0.03")
    for _ in range(2):
        with job.start() as run:
            run.wait_until_painted(60)
            if victim == "driver":
                run.driver().kill()
                assert run.child.wait(GONE_S) == 1
                assert "SIGKILL" in run.child.stderr
            else:
                run.child.kill()
            run.wait_until_gone()
    with job.start() as run:
        run.end()
    assert "waiting" not in run.child.stderr
    assert job.made_again() <= 2 * 2 * 2, "two runs, each with two workers of two shards"
    check(job)


def test_frozen_workers_are_replaced_and_spoil_nothing_when_they_thaw(tmp_path):
    job = make_job(tmp_path, CATS, model="fake:pace=0.25", limits=PATIENT)
    with job.start() as run:
        run.wait_until_painted(12)
        frozen = run.painters()
        for process in frozen:
            process.suspend()
        known = {process.pid for process in frozen}
        wait_until(lambda: {pid for _, pid in job.painted()} - known, START_S, "a new worker to paint")
        for process in frozen:
            if process.is_running():
                process.resume()
        run.end()
    assert run.child.stderr.count("gave no answer for 8 s") == 2
    check(job)


def test_a_driver_frozen_past_its_lease_commits_nothing_more(tmp_path):
    """A second driver takes over after 30 s and finishes; the first one thaws in the middle of that."""
    job = make_job(tmp_path, CATS, model="fake:pace=0.1")
    with job.start() as first:
        first.wait_until_painted(30)
        first.driver().suspend()
        time.sleep(EXPIRY_S)
        with job.start() as second:
            second.wait_until_painted(10)
            first.driver().resume()
            first.end(1)
            second.end()
    assert "LM1310" in first.child.stderr
    check(job)
