"""Calamities: each line of `make chaos`: a job in an empty place, a fault many times over, and where that is to be."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

import fleet
import laptop
from drills import (
    finish,
    freeze_driver,
    freeze_workers,
    kill_drivers,
    kill_store,
    kill_workers,
    lose_replies,
    race,
    storm,
    through,
)
from mill import Job, make_job
from servers.faultproxy import FaultProxy
from servers.server import S3Server
from servers.store import place_on

KILLS = 10
OUTAGES = 3
LONGEST_OUTAGE_S = 10.0
STORMS = 3
LENIENT = {"max_failed_share": 1.0, "batch_timeout_seconds": 8}
S3 = ("rgw http", "rgw tls", "rclone http", "rclone tls")
PLAIN = ("rgw http", "rclone http")
ON_A_FLEET = {
    "gpus_per_worker": 1,
    "workers": {"min": fleet.MACHINES, "max": fleet.MACHINES},
    "shard_size": 8,
}


@dataclass(frozen=True)
class Place:
    """A store, and how to come by an empty place on it."""

    name: str
    server: S3Server | None = None
    endpoint: str = ""

    @contextmanager
    def empty(self) -> Iterator[str | None]:
        """The URL of an output there, with the environment pointed at it; None is a folder beside the job."""
        with pytest.MonkeyPatch.context() as patch:
            yield place_on(self.server, self.endpoint, patch).url if self.server else None

    def proxy(self) -> FaultProxy:
        assert self.server
        return FaultProxy(self.endpoint, self.server.certificates)


class Told(NamedTuple):
    """What befell a job: how often, and the seconds that each blow cost, where they are measured."""

    job: Job
    count: int
    seconds: Sequence[float] = ()


Drill = Callable[[Path, Place, str | None, Random], Told]
"""Makes a job in a folder, lets things happen to it until it is done, and tells of them."""


class Calamity(NamedTuple):
    """A line of the table for each of the places. It goes by the name of its drill."""

    drill: Drill
    places: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.drill.__name__.replace("_", "-")


def cats(count: int) -> list[str]:
    return [f"a cat, number {number}" for number in range(count)]


def workers_killed(folder: Path, _: Place, output: str | None, random: Random) -> Told:
    """A worker is SIGKILLed in mid-shard."""
    job = make_job(folder, cats(1600), output=output, model="fake:pace=0.02")
    kill_workers(job, KILLS, random)
    assert job.made_again() <= 2 * KILLS
    return Told(job, KILLS)


def drivers_killed(folder: Path, _: Place, output: str | None, random: Random) -> Told:
    """The driver is SIGKILLed, and the command run again."""
    job = make_job(folder, cats(1000), output=output, model="fake:pace=0.03")
    kill_drivers(job, KILLS // 2, random)
    finish(job)
    return Told(job, KILLS // 2)


def command_lines_killed(folder: Path, _: Place, output: str | None, random: Random) -> Told:
    """The command line is SIGKILLed, and run again."""
    job = make_job(folder, cats(1000), output=output, model="fake:pace=0.03")
    kill_drivers(job, KILLS // 2, random, command_line=True)
    finish(job)
    return Told(job, KILLS // 2)


def fleet_machines_killed(folder: Path, _: Place, output: str | None, __: Random) -> Told:
    """A submitted job: one of three machines vanishes, another one joins."""
    return _machines_lost(folder, output, ["killed"] * KILLS)


def fleet_machines_drained(folder: Path, _: Place, output: str | None, __: Random) -> Told:
    """A submitted job: one of three machines is announced to go, another one joins."""
    return _machines_lost(folder, output, ["drained"] * (KILLS // 2))


def _machines_lost(folder: Path, output: str | None, losses: list) -> Told:
    job = _for_a_fleet(folder, output)
    with fleet.fleet(folder) as ours, ours.submitted(job) as run:
        seconds = fleet.lose_machines(run, ours.cluster, ours.machines, losses, between=max(fleet.BETWEEN))
    assert job.made_again() <= 2 * losses.count("killed")
    return Told(job.as_uploaded(), len(losses), seconds)


def fleet_workers_killed(folder: Path, _: Place, output: str | None, random: Random) -> Told:
    """A submitted job: a worker is SIGKILLed in mid-shard."""
    job = _for_a_fleet(folder, output)
    with fleet.fleet(folder) as ours:
        seconds = fleet.kill_workers(job, ours, 2 * KILLS, random)
    assert job.made_again() <= 4 * KILLS
    return Told(job.as_uploaded(), 2 * KILLS, seconds)


def fleet_drivers_killed(folder: Path, _: Place, output: str | None, random: Random) -> Told:
    """A submitted job: the driver on the head is SIGKILLed, and the job submitted again."""
    job = _for_a_fleet(folder, output)
    with fleet.fleet(folder) as ours:
        seconds = fleet.submit_again(job, ours, [fleet.kill_driver] * (KILLS // 2), random)
    return _all_workers_lost(job, seconds)


def fleet_heads_killed(folder: Path, _: Place, output: str | None, random: Random) -> Told:
    """A submitted job: the head vanishes, another cluster is made, and the job submitted there."""
    job = _for_a_fleet(folder, output)
    with ExitStack() as stack:
        another = lambda: stack.enter_context(fleet.fleet(folder))  # noqa: E731
        seconds = fleet.submit_again(job, another(), [fleet.kill_head(another)] * (KILLS // 2), random)
    return _all_workers_lost(job, seconds)


def _for_a_fleet(folder: Path, output: str | None) -> Job:
    """Three images a second, for 17 minutes: longer than what happens to it."""
    return make_job(folder, cats(3000), output=output, model=fleet.slow_model(folder, 1), **ON_A_FLEET)


def _all_workers_lost(job: Job, seconds: list[float]) -> Told:
    assert job.made_again() <= 2 * fleet.MACHINES * len(seconds)
    return Told(job.as_uploaded(), len(seconds), seconds)


def laptop_closed(folder: Path, _: Place, output: str | None, __: Random) -> Told:
    """2,000 prompts sent from an environment with the laptop's install alone: left, followed, stopped, sent again."""
    options = {**ON_A_FLEET, "model": "fake:pace=0.2"}
    job = make_job(folder, cats(2000), output=output, **options)
    laptop.install(folder)
    with fleet.fleet(folder) as ours:
        laptop.leave_to_cluster(laptop.Laptop(folder, ours), job)
    assert job.made_again() == 0
    return Told(job.as_uploaded(), 1)


def stores_killed(folder: Path, place: Place, output: str | None, random: Random) -> Told:
    """The store is killed and started again."""
    job = make_job(folder, cats(600), output=output, model="fake:pace=0.03")
    kill_store(job, place.server, OUTAGES, random, LONGEST_OUTAGE_S)
    assert job.made_again() == 0, "a store that is away for a while costs no work"
    return Told(job, OUTAGES)


def replies_lost(folder: Path, place: Place, output: str | None, _: Random) -> Told:
    """The reply to every kind of write is lost."""
    job = mixed(folder, output, 12)
    with place.proxy() as proxy:
        rules = lose_replies(proxy)
        with job.start(env=through(proxy)) as run:
            run.end()
        assert all(rule.hits for rule in rules.values()), {name: rule.hits for name, rule in rules.items()}
        return Told(job, proxy.hits["lost"])


def bad_weather(folder: Path, place: Place, output: str | None, random: Random) -> Told:
    """503, reset, torn, lost and late replies, all together."""
    return _through_a_storm(mixed(folder, output, 6), place, random)


def _through_a_storm(job: Job, place: Place, random: Random) -> Told:
    with place.proxy() as proxy:
        storm(proxy, random.randrange(1000))
        with job.start(env=through(proxy)) as run:
            run.end()
        return Told(job, proxy.hits.total())


def parquet_workers_killed(folder: Path, _: Place, output: str | None, random: Random) -> Told:
    """Images go inside Parquet: a worker is SIGKILLed in mid-shard."""
    job = make_job(folder, cats(800), output=output, model="fake:pace=0.02", sink="parquet")
    kill_workers(job, KILLS // 2, random)
    assert job.made_again() <= KILLS
    return Told(job, KILLS // 2)


def parquet_in_bad_weather(folder: Path, place: Place, output: str | None, random: Random) -> Told:
    """Images go inside Parquet: 503, reset, torn, lost and late replies, all together."""
    return _through_a_storm(mixed(folder, output, 6, sink="parquet"), place, random)


def rivals_started(folder: Path, _: Place, output: str | None, __: Random) -> Told:
    """Two command lines at once."""
    job = make_job(folder, cats(200), output=output, model="fake:pace=0.05")
    race(job)
    assert job.made_again() == 0
    return Told(job, 1)


def workers_frozen(folder: Path, _: Place, output: str | None, __: Random) -> Told:
    """All workers are frozen, and thawed after their successors have begun."""
    job = make_job(folder, cats(160), output=output, model="fake:pace=0.2", limits=LENIENT)
    return Told(job, freeze_workers(job))


def driver_frozen(folder: Path, _: Place, output: str | None, __: Random) -> Told:
    """The driver is frozen past its lease, then thawed."""
    job = make_job(folder, cats(240), output=output, model="fake:pace=0.06")
    freeze_driver(job)
    return Told(job, 1)


def retry_frozen(folder: Path, _: Place, output: str | None, __: Random) -> Told:
    """Half of the images fail, and are mended; the driver that makes them again is frozen past its lease."""
    cure = folder / "cure"
    rows = [f"{cat}{' boom' * (number % 2)}" for number, cat in enumerate(cats(240))]
    job = make_job(folder, rows, output=output, model=f"fake:pace=0.06,fail=boom,cure={cure}")
    with job.start() as run:
        run.end()
    cure.touch()
    job.journal.unlink()
    freeze_driver(job, "retry")
    return Told(job, 1)


def mixed(folder: Path, output: str | None, shard_size: int, **more: object) -> Job:
    """Shards of a few kilobytes and of megabytes: one PUT, and several parts."""
    models = [{"model": "fake", "width": 32, "height": 32}, {"model": "fake:natural=1", "width": 1024, "height": 1024}]
    rows = [{"prompt": cat, "model": models[number % 6 == 0]["model"]} for number, cat in enumerate(cats(72))]
    options = {"overrides": ["model"], "encoding": {"format": "png"}, "shard_size": shard_size, **more}
    return make_job(folder, rows, output=output, models=models, **options)


CALAMITIES = (
    *(Calamity(drill, ("rclone http",)) for drill in (fleet_machines_killed, fleet_machines_drained)),
    *(Calamity(drill, ("rgw http",)) for drill in (fleet_workers_killed, fleet_drivers_killed, fleet_heads_killed)),
    Calamity(laptop_closed, ("rgw tls",)),
    Calamity(workers_killed, ("folder", *S3)),
    Calamity(drivers_killed, S3),
    Calamity(command_lines_killed, S3),
    Calamity(stores_killed, S3),
    Calamity(replies_lost, S3),
    Calamity(bad_weather, S3 * STORMS),
    Calamity(parquet_workers_killed, ("folder", "rgw http")),
    Calamity(parquet_in_bad_weather, ("rgw tls", "rclone http")),
    Calamity(rivals_started, ("folder", *S3)),
    Calamity(workers_frozen, ("folder", "rgw http")),
    Calamity(driver_frozen, ("folder", *PLAIN)),
    Calamity(retry_frozen, ("folder", *PLAIN)),
)
"""All that happens in `make chaos`."""
