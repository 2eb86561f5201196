"""Workers and drivers that are killed, frozen or hung, with real Ray: nothing is lost, and nothing made twice."""

from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest

from checker import check
from drills import finish, freeze_driver, freeze_workers, kill_drivers, kill_workers, race
from mill import make_job
from servers.store import place_on

CATS = [f"a cat, number {number}" for number in range(240)]
LENIENT = {"max_failed_share": 1.0, "batch_timeout_seconds": 8}
"""Seconds after which a worker that says nothing, or does not finish a batch of a few milliseconds, is ended."""


def key(row: int) -> str:
    return f"{row:012d}-0000-00"


def test_killed_workers_cost_at_most_two_shards_each(tmp_path):
    job = make_job(tmp_path, [*CATS, *CATS], model="fake:pace=0.03")
    kill_workers(job, 2, Random(0))
    assert 1 <= job.made_again() <= 2 * 2
    check(job)


def test_rows_that_kill_or_hang_their_worker_are_failed_rows_and_the_others_finish(tmp_path):
    """Three times each, so that each fault is there three times."""
    bad = {7: "poison", 33: "stuck"}
    rows = [bad.get(number, cat) for number, cat in enumerate(CATS[:60])]
    job = make_job(tmp_path, rows, model="fake:kill=poison,hang=stuck", limits=LENIENT)
    with job.start() as run:
        run.end()
    check(job, {key(row): "LM1606" for row in bad})
    painted = [name for name, _ in job.painted()]
    assert {row: painted.count(key(row)) for row in bad} == dict.fromkeys(bad, 3)


def test_killed_drivers_and_command_lines_are_resumed_at_once(tmp_path):
    job = make_job(tmp_path, CATS, model="fake:pace=0.03", workers={"min": 1, "max": 1})
    kill_drivers(job, 2, Random(1))
    kill_drivers(job, 2, Random(2), command_line=True)
    finish(job)
    assert job.made_again() <= 4 * 2, "four runs, each with a worker of two shards"
    check(job)


def test_what_froze_spoils_nothing_when_it_thaws(tmp_path):
    """Workers, which are replaced, and a driver, whose lease another one takes: both at once, as it takes a minute."""
    workers = make_job(tmp_path / "workers", CATS[:160], model="fake:pace=0.2", limits=LENIENT)
    driver = make_job(tmp_path / "driver", CATS, model="fake:pace=0.03", workers={"min": 1, "max": 1})
    with ThreadPoolExecutor(1) as aside:
        frozen = aside.submit(freeze_workers, workers)
        freeze_driver(driver)
        assert frozen.result() == 2
    check(workers)
    check(driver)


@pytest.mark.parametrize("name", ["rgw", "rclone"])
def test_of_two_command_lines_one_proceeds_and_the_other_says_who_does(request, monkeypatch, tmp_path, name):
    server = request.getfixturevalue(name)
    store = place_on(server, server.endpoint, monkeypatch)
    job = make_job(tmp_path, CATS[:80], output=store.url, model="fake:pace=0.05", workers={"min": 1, "max": 1})
    race(job)
    assert job.made_again() == 0
    check(job)
