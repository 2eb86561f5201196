"""A job under test: its job file, the processes that run it, and what they have left behind."""

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
import yaml

from actors.models.settings import ModelSettings
from actors.storage.opening import open_bucket
from cluster.jobfile import load_job
from jobs.spec import JobSpec
from processes import Child, lightmill, wait_until

START_S = 180
"""Until the first image is painted: Ray takes 5 s to start on a quiet machine, and many times that on a busy one."""
GONE_S = 30
"""Until the last descendant of a killed command line is gone: it takes one second, if nobody else wants the machine."""
RUN_S = 480
PAINTER = r"^ray::Worker"
DRIVER = r" -m jobs "


@dataclass(frozen=True)
class Job:
    """A job file, and where its `fake` model keeps its journal."""

    file: Path
    journal: Path

    @property
    def spec(self) -> JobSpec:
        return load_job(self.file, {})

    @property
    def output(self) -> str:
        return self.spec.output

    def start(self, *flags: str, env: Mapping[str, str] | None = None, command: str = "run") -> "Run":
        """The command line on this job; a `Run` is left by `with`."""
        subject = self.file if command == "run" else self.output
        return Run(self, Child(lightmill(command, subject, *flags), self.file.parent, env=env))

    def painted(self) -> list[tuple[str, int]]:
        """Each image that was begun, as often as that happened: its key, and the process that painted it."""
        if not self.journal.exists():
            return []
        lines = self.journal.read_text().rpartition("\n")[0].splitlines()
        return [(key, int(pid)) for key, pid in (line.split() for line in lines)]

    def of_slot(self, slot: str) -> "Job":
        """What a slot has made of a job whose output has `{slot}`."""
        document = yaml.safe_load(self.file.read_text())
        file = self.file.with_name(f"{slot}.yaml")
        file.write_text(yaml.safe_dump({**document, "output": document["output"].replace("{slot}", slot)}))
        return Job(file, self.journal)

    def as_uploaded(self) -> "Job":
        """The job with the table that a cluster was given: that is the one that it is held to."""
        document = yaml.safe_load(self.file.read_text())
        manifest = json.loads(open_bucket(self.output).get("manifest.json"))
        self.file.write_text(yaml.safe_dump({**document, "prompts": manifest["spec"]["prompts"]}))
        return self

    def made_again(self) -> int:
        """Shards that were begun once more, counted for each time."""
        spec = self.spec
        by_shard: defaultdict[tuple[str, int], set[int]] = defaultdict(set)
        for key, pid in self.painted():
            row, _, lane = key.split("-")
            by_shard[lane, int(row) // spec.rows_per_shard].add(pid)
        return sum(len(pids) - 1 for pids in by_shard.values())


def make_job(folder: Path, rows: list, *, output: str | None = None, model: str = "fake", **fields: object) -> Job:
    """Write the table and the job file. `rows` are prompts or objects; `fields` are the job's, or its only model's."""
    folder.mkdir(parents=True, exist_ok=True)
    table, journal = folder / "prompts.jsonl", folder / "journal"
    table.write_text("".join(json.dumps(row if isinstance(row, dict) else {"prompt": row}) + "\n" for row in rows))
    settings = {"width": 32, "height": 32, "batch_size": 4, "workers": {"min": 2, "max": 2}}
    settings |= {name: fields.pop(name) for name in list(fields) if name in ModelSettings.model_fields}
    kind = "stages" if "stages" in fields else "models"
    models = fields.pop(kind, [{"model": model, **settings}])
    if "model" not in fields.get("overrides", ()):  # whose rows name the models as they stand here
        models = [{**one, "model": with_journal(one["model"], journal)} for one in models]
    document = {
        "prompts": str(table),
        "output": output or str(folder / "out"),
        "shard_size": 20,
        kind: models,
        "limits": {"max_failed_share": 1.0},
        **fields,
    }
    file = folder / "job.yaml"
    file.write_text(yaml.safe_dump(document))
    return Job(file, journal)


def with_journal(model: str, journal: Path) -> str:
    name, _, options = model.partition(":")
    return f"{name}:{options},journal={journal}" if name == "fake" else model


class Run:
    """One command line at work on a job, with all its descendants; none of them outlives the `with`."""

    def __init__(self, job: Job, child: Child) -> None:
        self.job = job
        self.child = child
        self._before = len(job.painted())

    def driver(self) -> psutil.Process:
        return self.child.wait_for_descendant(DRIVER, START_S)

    def wait_until_painted(self, images: int) -> None:
        """Return once so many images have been begun since the start of this run, or since the last call."""

        def enough() -> bool:
            assert self.child.returncode is None, f"it ended too early: {self.child}"
            return len(self.job.painted()) - self._before >= images

        wait_until(enough, START_S, f"{images} images of {self.child}")
        self._before = len(self.job.painted())

    def painters(self) -> list[psutil.Process]:
        """The workers that are alive."""
        return self.child.descendants(PAINTER)

    def painter(self) -> psutil.Process:
        """The worker that began an image last, or another one if that has ended."""
        alive = {process.pid: process for process in self.painters()}
        for _, pid in reversed(self.job.painted()):
            if pid in alive:
                return alive[pid]
        raise AssertionError(f"no worker lives below {self.child}")

    def kill_painter(self) -> int:
        """SIGKILL to a worker that has just begun an image. Its process id."""
        self.wait_until_painted(1)
        process = self.painter()
        process.kill()
        process.wait(GONE_S)
        return process.pid

    def end(self, status: int = 0, timeout_s: float = RUN_S) -> dict:
        """Wait for the end, which must be this; the outcome as `--json` gives it, if that was asked for."""
        assert self.child.wait(timeout_s) == status, self.child
        self.wait_until_gone()
        return json.loads(self.child.stdout) if self.child.stdout.strip() else {}

    def wait_until_gone(self) -> None:
        """Driver, Ray and workers end with the command line."""
        wait_until(lambda: not self.child.descendants(), GONE_S, f"every descendant to end of {self.child}")

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *error: object) -> None:
        self.child.end()
