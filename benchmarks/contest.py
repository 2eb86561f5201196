"""Contest: whole jobs and baselines, each in its turn, and what came of each round."""

import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.baselines.loops import Loop
from benchmarks.baselines.painters import Painter
from benchmarks.baselines.task import Task

ROOT = Path(__file__).parent.parent
LIGHTMILL = (sys.executable, "-m", "cluster")
LONGEST_SECONDS = 900


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one contender did in one round."""

    images: int
    steady: float
    """Seconds from when the weights were in memory until the last image was stored, or committed."""
    wall: float
    """Of the whole command, with its start and its end."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Of a job's workers, by cause."""
    commits: tuple[tuple[float, int], ...] = ()
    """Of a job: when each shard was committed, in seconds since the worker was ready, and its images. Of a script: when
    each batch was saved."""

    @property
    def rate(self) -> float:
        """Images a second, start-up excluded."""
        return self.images / self.steady

    @property
    def windows(self) -> list[float]:
        """Images a second between one commit and the next."""
        ends = [0.0, *(when for when, _ in self.commits)]
        return [images / (ends[n + 1] - ends[n]) for n, (_, images) in enumerate(self.commits)]

    @property
    def overall(self) -> float:
        """Images a second of the whole command."""
        return self.images / self.wall


Contender = Callable[[Path], Outcome]
"""Works in an empty folder."""
Rounds = dict[str, list[Outcome]]


def contest(contenders: Mapping[str, Contender], rounds: int) -> Rounds:
    """Every round of every contender. They take turns, each round in the opposite order."""
    found: Rounds = {name: [] for name in contenders}
    for number in range(rounds):
        for name in list(contenders)[:: -1 if number % 2 else 1]:
            with tempfile.TemporaryDirectory(prefix="lightmill-bench-") as folder:
                outcome = contenders[name](Path(folder))
            found[name].append(outcome)
            print(f"  round {number + 1}, {name}: {outcome.rate:.2f} images/s, {outcome.wall:.1f} s in all", flush=True)
    return found


def ratio(found: Rounds, ours: str, theirs: str, of: str = "rate") -> float:
    """Ours over theirs: the median of the rounds' ratios, each of two that ran one after the other."""
    pairs = zip(found[ours], found[theirs], strict=True)
    return median(getattr(own, of) / getattr(other, of) for own, other in pairs)


def summary(found: Rounds, ours: str) -> list[dict[str, Any]]:
    """A row for each contender; the ratios are ours over theirs."""
    return [
        {
            "contender": name,
            "images": outcomes[0].images,
            "images/s": median(outcome.rate for outcome in outcomes),
            "with start-up": median(outcome.overall for outcome in outcomes),
            "ratio": ratio(found, ours, name),
            "ratio with start-up": ratio(found, ours, name, "overall"),
            "rounds": len(outcomes),
        }
        for name, outcomes in found.items()
    ]


def looped(loop: Loop, painter: Painter, task: Task) -> Contender:
    """A loop in this process, whose weights are in memory already."""

    def run(folder: Path) -> Outcome:
        rows = task.placed(folder).rows()
        began = time.perf_counter()
        loop(painter, rows, task.batch, folder)
        spent = time.perf_counter() - began
        return Outcome(len(rows), spent, spent)

    return run


def program(module: str, task: Task, launcher: tuple[str, ...] = (sys.executable, "-m")) -> Contender:
    """A baseline that is a program of its own."""

    def run(folder: Path) -> Outcome:
        placed = task.placed(folder)
        began = time.perf_counter()
        _run([*launcher, f"benchmarks.baselines.{module}", placed.dump()], folder)
        wall = time.perf_counter() - began
        said = json.loads((folder / "report.json").read_text())
        assert said["images"] == task.images, said
        done = tuple((when - said["began"], images) for when, images in said["batches"])
        return Outcome(task.images, said["ended"] - said["began"], wall, commits=done)

    return run


def whole_job(task: Task, *, shard_size: int, workers: int = 1) -> Contender:
    """`lightmill run`, as a person types it."""

    def run(folder: Path) -> Outcome:
        job = task.placed(folder).job(shard_size=shard_size, workers=workers)
        (folder / "job.yaml").write_text(json.dumps(job))
        began = time.perf_counter()
        said, ready = _job(folder)
        wall = time.perf_counter() - began
        assert said["totals"]["ok"] == task.images, said
        commits = sorted(path.stat().st_mtime for path in (folder / "out" / "metadata").glob("*.parquet"))
        sizes = [shard_size] * (task.images // shard_size) + [task.images % shard_size]
        times = tuple((when - ready, size) for when, size in zip(commits, sizes, strict=False))
        return Outcome(task.images, commits[-1] - ready, wall, said["seconds"], times)

    return run


def waiting_share(outcome: Outcome) -> float:
    """For how much of the time since its weights were loaded a job's producer waited for encoders or the store."""
    seconds = outcome.seconds
    spent = sum(seconds.values()) - seconds["load"] - seconds["warm_up"]
    return (seconds["encode_wait"] + seconds["upload_wait"]) / spent


def environment() -> dict[str, str]:
    """Ray keeps to this machine; arithmetic has the threads that a task says, and torch alone says so."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_OFFLINE": "1",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def _job(folder: Path) -> tuple[dict[str, Any], float]:
    """What the command said at its end, and when its first worker was ready, by the clock that files are dated by."""
    ready: float | None = None
    command = [*LIGHTMILL, "run", folder / "job.yaml", "--json"]
    with (folder / "said").open("w+") as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.PIPE, text=True, env=environment())
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if ready is None and " is ready: " in line:
                ready = time.time()
        assert process.wait() == 0, "".join(lines)
        said.seek(0)
        assert ready is not None, "".join(lines)
        return json.loads(said.read()), ready


def _run(command: list[str], folder: Path) -> None:
    """A program that has to end well."""
    with (folder / "said").open("w+") as said:
        done = subprocess.run(
            command, stdout=said, stderr=said, env=environment(), timeout=LONGEST_SECONDS, check=False
        )
        said.seek(0)
        assert done.returncode == 0, said.read()[-4000:]
