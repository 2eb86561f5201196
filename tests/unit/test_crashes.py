"""A process dies at every named point, and the job is run again until it is done."""

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

import crash_points
from actors.storage.opening import open_bucket
from builders import make_spec, read_rows
from jobs import index
from jobs.manifest import Manifest
from jobs.verify import verify

ROOT = Path(__file__).parents[2]
ROWS = 26
TWO_DAYS = 2 * 86_400


class Runner:
    """The process that forks the ones which die."""

    def __init__(self, folder):
        self._errors = (folder / "stderr").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, ROOT / "tests" / "crash_runner.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            bufsize=1,
        )
        self._count = 0

    def do(self, *tasks):
        """The exit statuses of these tasks, which run at once."""
        first = self._count
        for task in tasks:
            self._process.stdin.write(json.dumps({**task, "id": self._count}) + "\n")
            self._count += 1
        answers = [json.loads(self._process.stdout.readline()) for _ in tasks]
        assert sorted(answer["id"] for answer in answers) == list(range(first, self._count))
        return [answer["status"] for answer in sorted(answers, key=lambda answer: answer["id"])]

    def end(self):
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()
        self._errors.close()


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    runner = Runner(tmp_path_factory.mktemp("runner"))
    yield runner
    runner.end()


class Job:
    """One output, and what its processes have noted."""

    def __init__(self, folder, kind="strong"):
        folder.mkdir(parents=True, exist_ok=True)
        prompts = folder / "prompts.tsv"
        lines = [f"{'boom' if row % 5 == 1 else 'colour'} {row}" for row in range(ROWS)]
        prompts.write_text("prompt\n" + "\n".join(lines) + "\n")
        self.spec = make_spec(folder, model="fake:fail=boom", table=str(prompts))
        self.log = folder / "log"
        self.kind = kind

    def task(self, do="run", **more):
        return {"do": do, "spec": self.spec.dump(), "log": str(self.log), "kind": self.kind, **more}

    def made(self):
        """Shards that each process was given, by pid."""
        given = {}
        for pid, index_ in re.findall(r"^(\d+) made (\d+)$", self.log.read_text() if self.log.exists() else "", re.M):
            given.setdefault(pid, set()).add(int(index_))
        return given

    def pictures(self):
        return {key: (row["status"], row["sha256"]) for key, row in read_rows(self.spec).items()}

    def assert_sound(self):
        bucket = open_bucket(self.spec.output)
        manifest = Manifest.load(bucket)
        faults = [fault for checked in verify(bucket, manifest) for fault in checked.faults]
        assert not faults, faults
        assert index.read_totals(bucket).images == ROWS == len(read_rows(self.spec))
        assert "README.md" in {info.key for info in bucket.list()}


@pytest.fixture(scope="module")
def undisturbed(runner, tmp_path_factory):
    job = Job(tmp_path_factory.mktemp("undisturbed"))
    assert runner.do(job.task()) == [0]
    job.assert_sound()
    return job.pictures()


def cases(points):
    return [pytest.param(point, number, id=f"{point}-{number}") for point, many in points.items() for number in many]


@pytest.mark.parametrize("point", crash_points.RUN)
def test_a_run_that_dies_is_finished_by_the_same_command(runner, tmp_path, undisturbed, point):
    occurrences = crash_points.RUN[point]
    jobs = [Job(tmp_path / str(number)) for number in occurrences]
    if occurrences == crash_points.ONCE:  # the same again in the next process, and in the one after
        for _ in range(3):
            assert runner.do(jobs[0].task(point=point, occurrence=1)) == ([137] if _ == 0 or dies_again(point) else [0])
    else:
        tasks = [job.task(point=point, occurrence=number) for job, number in zip(jobs, occurrences, strict=True)]
        assert runner.do(*tasks) == [137] * len(tasks)
    before = [committed(job) for job in jobs]

    assert runner.do(*(job.task() for job in jobs)) == [0] * len(jobs)

    for job, shards in zip(jobs, before, strict=True):
        job.assert_sound()
        assert job.pictures() == undisturbed
        *dead, _ = [*job.made().values(), set()] if not job.made() else job.made().values()
        again = Counter(shard for given in job.made().values() for shard in given)
        assert sum(times - 1 for times in again.values()) <= 2 * max(1, len(dead))
        assert not shards & (list(job.made().values())[-1] if len(job.made()) > 1 else set())


def dies_again(point):
    """Whether a process that resumes passes the point again."""
    return point in ("manifest.put", "lease.claimed", "index.put")


def committed(job):
    return {int(info.key[9:18]) for info in open_bucket(job.spec.output).list("metadata/")}


@pytest.mark.parametrize(("point", "occurrence"), cases(crash_points.RETRY))
def test_a_retry_that_dies_leaves_a_whole_output(runner, tmp_path, undisturbed, point, occurrence):
    job = Job(tmp_path)
    runner.do(job.task())

    assert runner.do(job.task("retry", point=point, occurrence=occurrence)) == [137]
    assert job.pictures() == undisturbed
    assert runner.do(job.task()) == [0]
    job.assert_sound()
    assert runner.do(job.task("retry")) == [0]

    job.assert_sound()
    assert job.pictures() == undisturbed


@pytest.mark.parametrize(("point", "occurrence"), cases(crash_points.CLEAN))
def test_a_clean_that_dies_removes_no_picture(runner, tmp_path, undisturbed, point, occurrence):
    job = Job(tmp_path)
    runner.do(job.task(point="commit.put", occurrence=2))
    runner.do(job.task(point="upload.part", occurrence=3))
    runner.do(job.task())
    for file in Path(job.spec.output).rglob("*"):
        os.utime(file, (time.time() - TWO_DAYS,) * 2)
    found = len(list(Path(job.spec.output).rglob("*.tar")))

    assert runner.do(job.task("clean", point=point, occurrence=occurrence)) == [137]
    assert runner.do(job.task("clean")) == [0]

    assert len(list(Path(job.spec.output).rglob("*.tar"))) < found
    assert runner.do(job.task()) == [0]
    job.assert_sound()
    assert job.pictures() == undisturbed


def test_the_list_of_points_is_the_code_s():
    code = {
        name
        for package in ("actors", "jobs")
        for file in (ROOT / package).rglob("*.py")
        for name in re.findall(r'crash\.point\("([a-z.]+)"\)', file.read_text())
    }
    listed = crash_points.RUN.keys() | crash_points.RETRY.keys() | crash_points.CLEAN.keys()
    assert code == listed
    assert len(listed) >= 14
