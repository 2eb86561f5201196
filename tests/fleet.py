"""A fleet: a cluster of a head that takes no work and machines with a GPU each, and jobs that are submitted to it.

Each drill takes a job that has not begun and returns once it is finished, with the seconds that each loss cost: from
the blow until as many workers as before were at work. The job has more images than all of that takes, however busy the
machine is, of a model that is slow until all has happened.
"""

import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Literal

import psutil

from mill import GONE_S, PAINTER, RUN_S, START_S, Job, Run
from processes import Child, command_line, lightmill, wait_until
from servers.raycluster import RayCluster, RayNode, ray_cluster

MACHINES = 3
NOTICE_S = 60
"""Before a machine is taken away."""
DRIVER = r"-m jobs @order\.json"
HURRY = "hurry"
BETWEEN = (30, 60)
"""Images between two blows. One that was on the device when a worker died is made alone and first, and has to be done
before the next one dies, or it would be blamed; and a machine has to finish a shard, or it would be left out."""


def slow_model(folder: Path, pace: float) -> str:
    """Of a job in this folder: an image takes so many seconds until `hurry`."""
    return f"fake:pace={pace},hurry={folder / HURRY}"


def hurry(run: Run) -> None:
    """Nothing more happens to it: it ends soon."""
    run.job.file.with_name(HURRY).touch()
    run.end(timeout_s=RUN_S)


@dataclass(frozen=True)
class Fleet:
    """What there is of it at the moment."""

    cluster: RayCluster
    machines: list[RayNode]

    def call(self, folder: Path, *words: str | Path) -> Child:
        """The command line of somebody who has the address and the token of the cluster."""
        return Child(lightmill(*words, "--address", self.cluster.jobs_url), folder, env=self.cluster.environment)

    @contextmanager
    def submitted(self, job: Job) -> Iterator[Run]:
        """The job on its way, seen by one who follows it."""
        with self.call(job.file.parent, "submit", job.file) as child:
            assert child.wait(START_S) == 0, child
        with self.call(job.file.parent, "attach", job.output) as child:
            yield Run(job, child)

    def driver(self) -> psutil.Process:
        """It runs on the head."""
        return self.cluster.child.wait_for_descendant(DRIVER, START_S)


@contextmanager
def fleet(folder: Path, machines: int = MACHINES) -> Iterator[Fleet]:
    """It notices its losses as Ray does where nobody says otherwise. Without machines the head takes the work."""
    with ray_cluster(folder, cpus=0 if machines else 4, jobs=True, health={}) as cluster, ExitStack() as stack:
        yield Fleet(cluster, [stack.enter_context(cluster.node()) for _ in range(machines)])


def workers_seen(job: Job) -> set[int]:
    """The processes that have ever begun an image."""
    return {pid for _, pid in job.painted()}


@contextmanager
def until_back(job: Job, seconds: list[float], workers: int) -> Iterator[None]:
    """From before the blow, which is the `with`, until so many workers are at work whom nobody has seen before."""
    known, began = workers_seen(job), time.monotonic()
    yield
    wait_until(lambda: len(workers_seen(job) - known) >= workers, START_S, f"{workers} new workers of {job.output}")
    seconds.append(time.monotonic() - began)


def painters(job: Job) -> list[psutil.Process]:
    """The workers that are alive and have begun an image, wherever they are."""
    alive = [psutil.Process(pid) for pid in sorted(workers_seen(job)) if psutil.pid_exists(pid)]
    return [process for process in alive if re.search(PAINTER, command_line(process))]


def paints(job: Job, machine: RayNode) -> bool:
    """Whether a worker on this machine has begun an image."""
    pids = {process.pid for process in machine.child.descendants(PAINTER)}
    return not pids.isdisjoint(workers_seen(job))


def lose_machines(
    run: Run,
    cluster: RayCluster,
    machines: list[RayNode],
    losses: Iterable[Literal["drained", "killed"]],
    between: int = 0,
) -> list[float]:
    """Again and again the oldest machine is taken away, with a notice or without. One has just joined, and nobody has
    asked anything of it yet. `between`: so many images are begun after each loss, which more than two need."""
    job, seconds, before = run.job, [], list(losses)
    with ExitStack() as stack:
        for loss in before:
            wait_until(lambda: all(paints(job, machine) for machine in machines), START_S, f"all to work: {run.child}")
            machines.append(stack.enter_context(cluster.node()))
            lost = machines.pop(0)
            with until_back(job, seconds, 1):
                lost.drain(NOTICE_S) if loss == "drained" else lost.kill()
            run.wait_until_painted(0)  # from now on
            run.wait_until_painted(between)
        hurry(run)
    assert run.child.stderr.count(" is taken away in ") == before.count("drained")
    assert run.child.stderr.count(" died with ") == before.count("killed")
    return seconds


def kill_workers(job: Job, fleet: Fleet, times: int, random: Random) -> list[float]:
    """SIGKILL, each time to some worker: all have images on their devices."""
    seconds: list[float] = []
    with fleet.submitted(job) as run:
        wait_until(lambda: len(workers_seen(job)) == len(fleet.machines), START_S, f"all to work: {run.child}")
        for _ in range(times):
            run.wait_until_painted(random.randint(*BETWEEN))
            with until_back(job, seconds, 1):
                random.choice(painters(job)).kill()
        hurry(run)
    return seconds


Blow = Callable[[Fleet, Run], Fleet]
"""What ends a driver; and the fleet that its job is then submitted to."""


def kill_driver(fleet: Fleet, run: Run) -> Fleet:
    """SIGKILL to the driver on the head, until that is said."""
    fleet.driver().kill()
    assert run.child.wait(GONE_S) == 1, run.child
    assert "LM1614" in run.child.stderr
    return fleet


def kill_head(another: Callable[[], Fleet]) -> Blow:
    """The head vanishes with the driver, and its machines are left alone. Another cluster is made, which takes time of
    its own."""

    def blow(fleet: Fleet, _: Run) -> Fleet:
        fleet.cluster.child.end()
        return another()

    return blow


def submit_again(job: Job, fleet: Fleet, blows: Iterable[Blow], random: Random) -> list[float]:
    """After each blow the same submission."""
    seconds: list[float] = []
    workers = max(1, len(fleet.machines))
    with ExitStack() as stack:
        run = stack.enter_context(fleet.submitted(job))
        for blow in blows:
            run.wait_until_painted(random.randint(*BETWEEN))
            with until_back(job, seconds, workers):
                fleet = blow(fleet, run)
                run = stack.enter_context(fleet.submitted(job))
        hurry(run)
    return seconds
