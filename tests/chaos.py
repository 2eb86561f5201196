"""`make chaos`: every fault many times over, on every store, and one table of what it came to.

    python -m tests.chaos [--seed 7] [--only worker]

Ends with status 1 if an image was lost or is there twice, or anything else is not as the checker wants it.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parent))

import pytest

import conftest  # noqa: F401 - seals the environment, as for any other test
from checker import Findings, examine
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
from servers.rclone import rclone_server
from servers.rgw import rgw_server
from servers.server import S3Server
from servers.store import place_on

KILLS = 10
OUTAGES = 3
LONGEST_OUTAGE_S = 10.0
STORMS = 3
WIDTHS = "{:<44} {:<12} {:>5} {:>6} {:>5} {:>6} {:>11} {:>8}"
HEADER = ("fault", "store", "count", "images", "lost", "twice", "made again", "seconds")
CRASHES = "process ended at each crash point"
LENIENT = {"max_failed_share": 1.0, "batch_timeout_seconds": 8}


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


Drill = Callable[[Path, Place, str | None, Random], tuple[Job, int]]
"""Makes a job in a folder, lets things happen to it until it is done, and says how often they did."""


def cats(count: int) -> list[str]:
    return [f"a cat, number {number}" for number in range(count)]


def workers_killed(folder: Path, _: Place, output: str | None, random: Random) -> tuple[Job, int]:
    job = make_job(folder, cats(1600), output=output, model="fake:pace=0.02")
    kill_workers(job, KILLS, random)
    assert job.made_again() <= 2 * KILLS
    return job, KILLS


def drivers_killed(folder: Path, _: Place, output: str | None, random: Random) -> tuple[Job, int]:
    job = make_job(folder, cats(1000), output=output, model="fake:pace=0.03")
    kill_drivers(job, KILLS // 2, random)
    finish(job)
    return job, KILLS // 2


def command_lines_killed(folder: Path, _: Place, output: str | None, random: Random) -> tuple[Job, int]:
    job = make_job(folder, cats(1000), output=output, model="fake:pace=0.03")
    kill_drivers(job, KILLS // 2, random, command_line=True)
    finish(job)
    return job, KILLS // 2


def stores_killed(folder: Path, place: Place, output: str | None, random: Random) -> tuple[Job, int]:
    job = make_job(folder, cats(600), output=output, model="fake:pace=0.03")
    kill_store(job, place.server, OUTAGES, random, LONGEST_OUTAGE_S)
    assert job.made_again() == 0, "a store that is away for a while costs no work"
    return job, OUTAGES


def replies_lost(folder: Path, place: Place, output: str | None, _: Random) -> tuple[Job, int]:
    job = mixed(folder, output, 12)
    with place.proxy() as proxy:
        rules = lose_replies(proxy)
        with job.start(env=through(proxy)) as run:
            run.end()
        assert all(rule.hits for rule in rules.values()), {name: rule.hits for name, rule in rules.items()}
        return job, proxy.hits["lost"]


def storms(folder: Path, place: Place, output: str | None, random: Random) -> tuple[Job, int]:
    job = mixed(folder, output, 6)
    with place.proxy() as proxy:
        storm(proxy, random.randrange(1000))
        with job.start(env=through(proxy)) as run:
            run.end()
        return job, proxy.hits.total()


def rivals_started(folder: Path, _: Place, output: str | None, __: Random) -> tuple[Job, int]:
    job = make_job(folder, cats(200), output=output, model="fake:pace=0.05")
    race(job)
    assert job.made_again() == 0
    return job, 1


def workers_frozen(folder: Path, _: Place, output: str | None, __: Random) -> tuple[Job, int]:
    job = make_job(folder, cats(160), output=output, model="fake:pace=0.2", limits=LENIENT)
    return job, freeze_workers(job)


def driver_frozen(folder: Path, _: Place, output: str | None, __: Random) -> tuple[Job, int]:
    job = make_job(folder, cats(240), output=output, model="fake:pace=0.06")
    freeze_driver(job)
    return job, 1


def retry_frozen(folder: Path, _: Place, output: str | None, __: Random) -> tuple[Job, int]:
    """Half of the images fail at first, and are mended; the driver that makes them again freezes."""
    cure = folder / "cure"
    rows = [f"{cat}{' boom' * (number % 2)}" for number, cat in enumerate(cats(240))]
    job = make_job(folder, rows, output=output, model=f"fake:pace=0.06,fail=boom,cure={cure}")
    with job.start() as run:
        run.end()
    cure.touch()
    job.journal.unlink()
    freeze_driver(job, "retry")
    return job, 1


def mixed(folder: Path, output: str | None, shard_size: int) -> Job:
    """Shards of a few kilobytes and of megabytes: one PUT, and several parts."""
    models = [{"model": "fake", "width": 32, "height": 32}, {"model": "fake:natural=1", "width": 1024, "height": 1024}]
    rows = [{"prompt": cat, "model": models[number % 6 == 0]["model"]} for number, cat in enumerate(cats(72))]
    options = {"overrides": ["model"], "encoding": {"format": "png"}, "shard_size": shard_size}
    return make_job(folder, rows, output=output, models=models, **options)


def drills(folder: Place, stores: list[Place]) -> Iterator[tuple[str, Drill, list[Place]]]:
    """Each fault, and where it is to happen."""
    plain = [store for store in stores if store.name.endswith("http")]
    yield "worker SIGKILLed in mid-shard", workers_killed, [folder, *stores]
    yield "driver SIGKILLed, run again", drivers_killed, stores
    yield "command line SIGKILLed, run again", command_lines_killed, stores
    yield "store killed and restarted", stores_killed, stores
    yield "reply lost, to every kind of write", replies_lost, stores
    for number in range(STORMS):
        yield f"bad weather {number + 1}: 503, reset, torn, lost, late", storms, stores
    yield "two command lines at once", rivals_started, [folder, *stores]
    yield "workers frozen, thawed after their successors", workers_frozen, [folder, plain[0]]
    yield "driver frozen past its lease, then thawed", driver_frozen, [folder, *plain]
    yield "retry frozen past its lease, then thawed", retry_frozen, [folder, *plain]


def perform(name: str, drill: Drill, place: Place, seed: int) -> bool:
    """One line of the table. Whether all was as it must be."""
    began = time.monotonic()
    count, again, findings = 0, 0, Findings(0, 0, [], [], [], {})
    with tempfile.TemporaryDirectory(prefix="lightmill-chaos-") as folder, place.empty() as output:
        try:
            job, count = drill(Path(folder) / "job", place, output, Random(f"{seed} {name} {place.name}"))
            findings, again = examine(job, {}), job.made_again()
        except Exception:  # noqa: BLE001 - whatever went wrong in one drill, the others are to be seen too
            findings.faults.append(traceback.format_exc())
    seconds = f"{time.monotonic() - began:.0f}"
    lost, twice = len(findings.lost), len(findings.twice)
    print(WIDTHS.format(name, place.name, count, findings.images, lost, twice, again, seconds), flush=True)
    for fault in findings.faults:
        print(f"    {fault}", flush=True)
    return not (findings.lost or findings.twice or findings.faults)


def crash_points() -> bool:
    """A process that dies at every named point, at each of its first occurrences: those tests count in full."""
    began = time.monotonic()
    tests = Path(__file__).with_name("unit") / "test_crashes.py"
    ended = subprocess.run([sys.executable, "-m", "pytest", "-q", tests], capture_output=True, text=True, check=False)
    passed = re.search(r"(\d+) passed", ended.stdout)
    seconds = f"{time.monotonic() - began:.0f}"
    print(WIDTHS.format(CRASHES, "folder", passed[1] if passed else 0, "", "", "", "", seconds), flush=True)
    if ended.returncode:
        print(ended.stdout, flush=True)
    return ended.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(2)), help="of what happens when")
    parser.add_argument("--only", default="", help="drills with this word in their name")
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}\n{WIDTHS.format(*HEADER)}", flush=True)
    with ExitStack() as servers:
        started = {"rgw": servers.enter_context(rgw_server()), "rclone": servers.enter_context(rclone_server())}
        stores = [
            Place(f"{name} {transport}", server, endpoint)
            for name, server in started.items()
            for transport, endpoint in (("http", server.endpoint), ("tls", server.tls_endpoint))
        ]
        fine = [
            perform(name, drill, place, chosen.seed)
            for name, drill, places in drills(Place("folder"), stores)
            for place in places
            if chosen.only in name
        ]
    if chosen.only in CRASHES:
        fine.append(crash_points())
    print(f"{sum(fine)} of {len(fine)} as they must be", flush=True)
    return 0 if all(fine) else 1


if __name__ == "__main__":
    sys.exit(main())
