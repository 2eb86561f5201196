"""What befalls jobs: one function for each fault, which tests do a few times and `make chaos` many times.

Each takes a job that has not begun and returns once it is finished, so that the checker can look at it.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from random import Random

from mill import GONE_S, RUN_S, START_S, Job, Run
from processes import wait_until
from servers.faultproxy import FaultProxy, Rule
from servers.server import S3Server

EXPIRY_S = 33
"""After the last renewal of a lease: it lasts 30 s, and clocks may differ by 2."""
OFTEN = 4
"""More than the three attempts that botocore makes."""

WRITES = {
    "probe": ("PUT", r"/leases/probe-", ""),
    "lease": ("PUT", r"/leases/0", ""),
    "prompts": ("PUT", r"/prompts/", ""),
    "manifest": ("PUT", r"/manifest\.json$", ""),
    "small tar": ("PUT", r"/images/[^/]*\.tar$", r"^$"),
    "begin of an upload": ("POST", r"/images/", r"^uploads"),
    "part": ("PUT", r"/images/", r"partNumber"),
    "end of an upload": ("POST", r"/images/", r"uploadId"),
    "metadata": ("PUT", r"/metadata/", ""),
    "status": ("PUT", r"/status\.json$", ""),
    "log": ("PUT", r"/logs/", ""),
    "list of tars": ("PUT", r"/shards\.txt$", ""),
    "index": ("PUT", r"/index\.parquet$", ""),
    "card": ("PUT", r"/README\.md$", ""),
}
"""Every kind of write that a run makes: method, path, query."""


def kill_workers(job: Job, times: int, random: Random) -> None:
    """SIGKILL, each time to a worker that has an image on its device.

    With many images in between: one that is on the device at three deaths is given up, and those that were there at
    one death run first after it.
    """
    with job.start() as run:
        for _ in range(times):
            run.wait_until_painted(random.randint(60, 120))
            run.kill_painter()
        run.end()


def kill_drivers(job: Job, times: int, random: Random, *, command_line: bool = False) -> None:
    """SIGKILL to the driver, or to the command line that holds its leash. The others go with it, and the next run knows
    that process to be dead: it waits for no lease to expire. The job is left to `finish`."""
    for _ in range(times):
        with job.start() as run:
            run.wait_until_painted(random.randint(1, 60))
            if command_line:
                run.child.kill()
            else:
                run.driver().kill()
                assert run.child.wait(GONE_S) == 1
                assert "SIGKILL" in run.child.stderr
            run.wait_until_gone()
            assert "waiting" not in run.child.stderr


def finish(job: Job) -> None:
    """The same command once more, left in peace."""
    with job.start() as run:
        run.end()
    assert "waiting" not in run.child.stderr


def kill_store(job: Job, server: S3Server, times: int, random: Random, longest_s: float) -> None:
    """The store goes away in the middle of the work, and comes back after a while."""
    with job.start() as run:
        for _ in range(times):
            run.wait_until_painted(random.randint(8, 24))
            server.kill_gateway()
            time.sleep(random.uniform(0, longest_s))
            server.start_gateway()
        run.end()


def freeze_workers(job: Job) -> int:
    """SIGSTOP to every worker until others have taken over, then SIGCONT. How many there were."""
    with job.start() as run:
        run.wait_until_painted(12)
        frozen = run.painters()
        known = {process.pid for process in frozen}
        for process in frozen:
            process.suspend()
        wait_until(lambda: {pid for _, pid in job.painted()} - known, START_S, "a new worker to paint")
        for process in frozen:
            if process.is_running():
                process.resume()
        run.end()
    assert run.child.stderr.count("gave no answer") == len(frozen)
    return len(frozen)


def freeze_driver(job: Job, command: str = "run") -> None:
    """SIGSTOP until the lease has expired. Another driver takes over; the first one thaws in the middle of its work."""
    with job.start(command=command) as first:
        first.wait_until_painted(12)
        first.driver().suspend()
        time.sleep(EXPIRY_S)
        with job.start(command=command) as second:
            second.wait_until_painted(4)
            first.driver().resume()
            first.end(1)
            second.end()
    assert "LM1310" in first.child.stderr


def race(job: Job) -> None:
    """Two command lines at the same moment: one proceeds, the other says who does."""
    with rivals(job) as (one, other):
        wait_until(lambda: {one.child.returncode, other.child.returncode} != {None}, START_S, "one to withdraw")
        winner, loser = (one, other) if one.child.returncode is None else (other, one)
        loser.end(1)
        assert "LM1311" in loser.child.stderr
        assert f"process {winner.driver().pid} " in loser.child.stderr
        winner.end(timeout_s=RUN_S)


@contextmanager
def rivals(job: Job) -> Iterator[tuple[Run, Run]]:
    """Both are there within a few milliseconds."""
    with ThreadPoolExecutor(2) as threads:
        started = [threads.submit(job.start) for _ in range(2)]
    with started[0].result() as one, started[1].result() as other:
        yield one, other


def lose_replies(proxy: FaultProxy) -> dict[str, Rule]:
    """To each kind of write, a few times. The rules by the kind."""
    return {
        name: proxy.add("lost", method=method, path=path, query=query, times=OFTEN)
        for name, (method, path, query) in WRITES.items()
    }


def storm(proxy: FaultProxy, seed: int) -> set[str]:
    """Of all requests, some are refused, reset, torn, late, or done without a reply. What may be counted then."""
    proxy.add("slow_down", probability=0.05, seed=seed)
    proxy.add("reset_response", probability=0.05, seed=seed + 1)
    proxy.add("lost", probability=0.05, seed=seed + 2)
    proxy.add("torn", method="GET", probability=0.2, seed=seed + 3)
    proxy.add("delay", probability=0.2, seed=seed + 4, seconds=0.3)
    proxy.add("torn_head", probability=0.05, seed=seed + 5)
    return {"slow_down", "reset_response", "lost", "torn", "torn_head", "delay"}


def through(proxy: FaultProxy) -> dict[str, str]:
    """The environment of a command that reaches its store by way of the proxy."""
    return {"AWS_ENDPOINT_URL_S3": proxy.endpoint}
