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
