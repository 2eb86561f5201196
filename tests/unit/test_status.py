"""The heartbeat of a driver: what it tells of a run while others look."""

from jobs.status import Progress, Status
from memory_bucket import MemoryBucket


def test_a_heartbeat_is_of_the_moment_in_which_the_driver_gave_it():
    """It is written by another thread, which may not look at counts that the driver's goes on to change."""
    bucket = MemoryBucket()

    def go_on():
        progress.making(7, 4, 1)
        return True

    progress = Progress(bucket, "cats", 10, 2, may_write=go_on)
    progress.heartbeat(lambda status: None)
    progress._writing.result()

    status = Status.load(bucket)
    assert (status.done, status.failed) == (2, 0)
    progress.close()
    assert (Status.load(bucket).done, Status.load(bucket).failed) == (6, 1)


def test_the_rate_of_a_run_is_that_since_a_worker_was_ready_and_at_its_end_of_all_of_it(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("jobs.status.time.monotonic", lambda: now[0])
    bucket = MemoryBucket()
    progress = Progress(bucket, "cats", 1000, 0)
    now[0] = 30.0  # Ray starts, a model loads
    assert (progress.status().images_per_second, progress.status().eta_seconds) == (0, None)
    progress.running()
    progress.status()
    now[0] = 40.0
    progress.making(0, 100, 0)
    assert (progress.status().images_per_second, progress.status().eta_seconds) == (10, 90)
    progress.committed(0, rows=1000, failed=0, filtered=0, seconds={})
    now[0] = 130.0
    progress.state = "finished"
    progress.close()
    assert Status.load(bucket).images_per_second == round(1000 / 130, 3)
