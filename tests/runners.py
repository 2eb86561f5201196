"""Whole runs in child processes that a test lets die, or freezes: a process that forks them, and what they work on."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from actors.storage.opening import open_bucket
from builders import make_spec, read_rows
from jobs import index
from jobs.manifest import Manifest
from jobs.verify import verify

ROWS = 26
NO_THREADS = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}
"""A process that forks has none: what another thread had locked stays locked in the child."""


class Runner:
    """The process that forks the ones which die."""

    def __init__(self, folder: Path) -> None:
        self._errors = (folder / "stderr").open("wb")
        tests = Path(__file__).parent
        self._process = subprocess.Popen(
            [sys.executable, tests / "crash_runner.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            bufsize=1,
            env={**os.environ, "PYTHONPATH": f"{tests.parent}:{tests}", **NO_THREADS},
        )
        self._count = 0
        self._answers: dict[int, int] = {}

    def start(self, task):
        """Let a child do the task; the number to ask for its exit status by."""
        number, self._count = self._count, self._count + 1
        self._process.stdin.write(json.dumps({**task, "id": number}) + "\n")
        return number

    def status(self, number):
        """How the child ended, once it has."""
        while number not in self._answers:
            answer = json.loads(self._process.stdout.readline())
            self._answers[answer["id"]] = answer["status"]
        return self._answers.pop(number)

    def do(self, *tasks):
        """The exit statuses of these tasks, two of which run at once."""
        return [self.status(number) for number in [self.start(task) for task in tasks]]

    def end(self):
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()
        self._errors.close()


class Job:
    """One output, and what its processes have noted."""

    def __init__(self, folder, kind="strong", model="fake:fail=boom", sink="webdataset", **settings):
        folder.mkdir(parents=True, exist_ok=True)
        prompts = folder / "prompts.tsv"
        lines = [f"{'boom' if row % 5 == 1 else 'colour'} {row}" for row in range(ROWS)]
        prompts.write_text("prompt\n" + "\n".join(lines) + "\n")
        self.spec = make_spec(folder, model=model, table=str(prompts), sink=sink)
        self.log = folder / "log"
        self.settings = {"kind": kind, **settings}

    def task(self, do="run", **more):
        return {"do": do, "spec": self.spec.dump(), "log": str(self.log), **self.settings, **more}

    @property
    def bucket(self):
        return open_bucket(self.spec.output)

    def noted(self):
        return self.log.read_text() if self.log.exists() else ""

    def committed(self):
        """The shards that are."""
        return {int(info.key[9:18]) for info in self.bucket.list("metadata/")}

    def made(self):
        """The shards that each process was given, one process after the other."""
        given = {}
        for pid, shard in re.findall(r"^(\d+) made (\d+)$", self.noted(), re.M):
            given.setdefault(pid, set()).add(int(shard))
        return list(given.values())

    def pictures(self):
        return {key: (row["status"], row["sha256"]) for key, row in read_rows(self.spec).items()}

    def assert_sound(self):
        bucket = self.bucket
        faults = [fault for checked in verify(bucket, Manifest.load(bucket)) for fault in checked.faults]
        assert not faults, faults
        assert index.read_totals(bucket).images == ROWS == len(read_rows(self.spec))
        assert "README.md" in {info.key for info in bucket.list()}
