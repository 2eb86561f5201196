"""A process dies at every named point, and the job is run again until it is done."""

import os
import re
import time
from pathlib import Path

import pytest

import crash_points
from builders import read_rows
from runners import Job, Runner

pytestmark = pytest.mark.xdist_group("crashes")  # one process: its runner keeps two cores busy
ROOT = Path(__file__).parents[2]
TWO_DAYS = 2 * 86_400


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    runner = Runner(tmp_path_factory.mktemp("runner"))
    yield runner
    runner.end()


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
    tasks = [job.task(point=point, occurrence=number) for job, number in zip(jobs, occurrences, strict=True)]
    for _ in range(3 if point in crash_points.AGAIN else 1):
        assert runner.do(*tasks) == [137] * len(tasks)
    before = [job.committed() for job in jobs]

    assert runner.do(*(job.task() for job in jobs)) == [0] * len(jobs)

    for job, committed in zip(jobs, before, strict=True):
        job.assert_sound()
        assert job.pictures() == undisturbed
        *dead, last = job.made() or [set()]
        assert not dead or not committed & last, "what was committed was made again"
        assert all(len(given & last) <= 2 for given in dead), "a death cost more than two shards"


@pytest.mark.parametrize("point", ["writer.member", "writer.finish", "upload.part", "upload.completed"])
def test_so_is_one_that_stores_images_inside_parquet(runner, tmp_path, undisturbed, point):
    """Equal pictures in both kinds of file: the points of a writer, of which the second shard dies."""
    job = Job(tmp_path, sink="parquet")
    assert runner.do(job.task(point=point, occurrence=5)) == [137]

    assert runner.do(job.task()) == [0]

    job.assert_sound()
    assert job.pictures() == undisturbed
    assert all(row["file"].endswith(".parquet") for row in read_rows(job.spec).values() if row["status"] == "ok")


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


@pytest.mark.parametrize(("point", "occurrence"), cases(crash_points.REFUSED))
def test_a_refused_run_that_dies_leaves_the_output_to_a_mended_job(runner, tmp_path, point, occurrence):
    job = Job(tmp_path, model="tiny")
    refused = job.task(point=point, occurrence=occurrence)
    refused["spec"]["models"][0] |= {"compile": True, "shortcuts": {"quantization": "fp8"}}  # for which a GPU is needed

    assert runner.do(refused) == [137]
    job = Job(tmp_path)
    assert runner.do(job.task()) == [0]

    job.assert_sound()


def test_the_list_of_points_is_the_code_s():
    code = {
        name
        for package in ("actors", "jobs")
        for file in (ROOT / package).rglob("*.py")
        for name in re.findall(r'crash\.point\("([a-z.]+)"\)', file.read_text())
    }
    works = (crash_points.RUN, crash_points.RETRY, crash_points.CLEAN, crash_points.REFUSED)
    listed = {point for points in works for point in points}
    assert code == listed
    assert len(listed) >= 14
