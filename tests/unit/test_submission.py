"""What a submission takes along, under which name, and how its end is told."""

import json
import os
import signal
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
import yaml

from actors.errors import ClusterError, InputError, Problem, StorageError, UsageError
from actors.models.registry import load_card
from actors.storage.opening import open_bucket
from builders import QuietLeash, drive, finished, make_spec
from cluster.baggage import at_the_store, bring, refuse_what_stays
from cluster.head import SubmittedJob
from cluster.journal import Journal
from cluster.submission import AlreadySubmitted, Submission, next_id
from cluster.watch import Watch, driving, is_of, last_words, read_status, silence
from commands import lightmill
from jobs.claims import claim_body, claim_key
from jobs.clean import find_leftovers
from jobs.engine import keeping_sigterm
from jobs.holder import Holder
from jobs.lease import Lease
from jobs.manifest import Manifest
from jobs.status import Status
from jobs.stop import StopRequest, StopWatch, ask_to_stop

OUT = "s3://bucket/cats"


def submitted(name, state="RUNNING", output=OUT, exit_code=None, message=""):
    return SubmittedJob(name, state, {"output": output, "lightmill": "0"}, None, exit_code, message)


class Cluster:
    """A head that answers as it is told."""

    def __init__(self, *answers, log=""):
        self.answers, self.kept = list(answers), log

    def job(self, name):
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def log(self, name):
        return self.kept


class Shown:
    def __init__(self):
        self.said, self.states = [], []

    def say(self, text):
        self.said.append(text)

    def show(self, status):
        self.states.append(status.state)


@pytest.fixture
def spec(tmp_path):
    return make_spec(tmp_path).model_copy(update={"output": OUT, "name": "cats"})


def test_attempts_are_counted_and_a_running_one_is_the_answer(spec):
    first = next_id(spec, [], "http://head")
    stem = first.removesuffix("-1")
    assert stem.startswith("lightmill-cats-")
    over = [submitted(f"{stem}-{number}", "STOPPED") for number in (1, 2, 10)]
    assert next_id(spec, over, "http://head") == f"{stem}-11"
    with pytest.raises(AlreadySubmitted) as refused:
        next_id(spec, [*over, submitted(f"{stem}-11", "PENDING")], "http://head")
    assert (refused.value.exit_code, refused.value.id) == (1, f"{stem}-11")
    assert f"{stem}-11 on http://head" in str(refused.value)
    elsewhere = spec.model_copy(update={"output": "s3://bucket/dogs"})
    assert next_id(elsewhere, [submitted(f"{stem}-11")], "http://head").rpartition("-")[0] != stem


def test_a_submission_is_the_latest_word_until_its_driver_has_one(tmp_path):
    bucket = open_bucket(str(tmp_path))
    assert Submission.latest(bucket) is None
    sent = Submission(id="a", name="cats", output=OUT, address="http://head", submitted_at=datetime.now(UTC))
    bucket.put("status.json", b"{}")
    bucket.put("submission.json", sent.model_dump_json().encode())
    assert Submission.latest(bucket) == sent
    time.sleep(0.01)
    bucket.put("status.json", b"{}")
    assert Submission.latest(bucket) is None


def test_what_no_cluster_could_read_is_refused(tmp_path, spec):
    for changes in ({"output": str(tmp_path / "out")}, {"overrides": ("image", "seed")}):
        with pytest.raises(InputError) as refused:
            refuse_what_stays(spec.model_copy(update=changes))
        assert refused.value.code == "LM1506"
    refuse_what_stays(spec)
    refuse_what_stays(spec.model_copy(update={"overrides": ("image",), "prompts": "s3://bucket/table.parquet"}))


def test_the_store_is_the_one_of_this_machine(spec, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://store.example")
    monkeypatch.setenv("AWS_REGION", "eu-1")
    found = at_the_store(spec).storage
    assert (found.endpoint_url, found.region) == ("https://store.example", "eu-1")
    named = spec.storage.model_copy(update={"endpoint_url": "https://named.example", "region": "us-1"})
    assert at_the_store(spec.model_copy(update={"storage": named})).storage == named
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://me:pw@store.example")
    with pytest.raises(UsageError) as refused:
        at_the_store(spec)
    assert "pw" not in str(refused.value)


def test_a_local_table_is_uploaded_once_under_the_name_of_its_content(tmp_path, moto_store):
    spec = make_spec(tmp_path).model_copy(update={"output": moto_store.url})
    said = []
    brought = bring(spec, tmp_path, said.append)
    assert brought.prompts.startswith(f"{moto_store.url}/prompts/")
    assert brought.prompts.endswith("/prompts.parquet")
    key = brought.prompts.removeprefix(f"{moto_store.url}/")
    bucket = open_bucket(moto_store.url)
    assert bucket.get(key) == Path(spec.prompts).read_bytes()
    assert len(said) == 1
    before = bucket.head(key)
    assert bring(spec, tmp_path, said.append) == brought
    assert (bucket.head(key), len(said)) == (before, 1)
    Path(spec.prompts).write_bytes(b"other")
    assert bring(spec, tmp_path, said.append).prompts != brought.prompts


@pytest.mark.parametrize("named", ["*.csv", "**/*.csv"])
def test_folders_and_globs_are_uploaded_as_they_lie(named, tmp_path, moto_store):
    table = tmp_path / "table"
    for place in ("a.csv", "deep/b.csv"):
        (table / place).parent.mkdir(parents=True, exist_ok=True)
        (table / place).write_text("prompt\nx\n")
    (table / "notes.txt").write_text("no table")
    block_list = tmp_path / "words.txt"
    block_list.write_text("war\n")
    spec = make_spec(tmp_path, table=str(table / named), prompt_filter={"block_list": str(block_list)})
    brought = bring(spec.model_copy(update={"output": moto_store.url}), tmp_path, print)
    found = {info.key for info in open_bucket(brought.prompts).list()}
    assert found == ({"a.csv"} if named == "*.csv" else {"a.csv", "deep/b.csv"})
    folder, _, name = brought.prompt_filter.block_list.rpartition("/")
    assert open_bucket(folder).get(name) == b"war\n"


def test_a_card_of_ones_own_goes_into_the_parcel(tmp_path, moto_store):
    card = tmp_path / "mine.yaml"
    shipped = yaml.safe_load((Path("actors/models/cards/stable-diffusion-1-5.yaml")).read_text())
    card.write_text(yaml.safe_dump({**shipped, "name": "mine", "id": "./weights"}))
    spec = make_spec(tmp_path, model=str(card)).model_copy(update={"output": moto_store.url})
    parcel = tmp_path / "parcel"
    parcel.mkdir()
    (lane,) = bring(spec, parcel, print).lanes
    assert lane.model == "cards/mine.yaml"
    assert load_card(parcel / lane.model) == load_card(card)
    assert load_card(parcel / lane.model).id == str(tmp_path / "weights")


def test_a_request_stops_the_driver_that_it_names_and_no_other(tmp_path):
    bucket = open_bucket(str(tmp_path))
    leash = QuietLeash()
    with StopWatch(bucket, "mine", leash, look_seconds=0.01):
        ask_to_stop(bucket, "another")
        assert not leash.stopping.wait(0.1)
        bucket.put("stop.json", b"{}")
        assert not leash.stopping.wait(0.1)
        ask_to_stop(bucket, "mine")
        assert leash.stopping.wait(10)
    assert leash.exit_code == 143
    assert "as `lightmill stop`, process" in leash.said[0]
    assert StopRequest.load(bucket).driver == "mine"


def test_who_drives_is_read_from_the_lease(tmp_path):
    spec = finished(tmp_path)
    bucket = open_bucket(spec.output)
    assert driving(bucket) is None
    with Lease(bucket, "strong", "clean"):
        assert driving(bucket) is None
    with Lease(bucket, "strong", "run") as lease:
        assert driving(bucket) == lease.token
        begun = read_status(bucket)
        assert (begun.state, begun.driver, begun.exit_code) == ("starting", lease.token, None)


def test_the_exit_status_of_a_run_is_in_the_store(tmp_path):
    spec = finished(tmp_path / "ok")
    assert Status.load(open_bucket(spec.output)).exit_code == 0
    bad = make_spec(tmp_path / "bad", rows=["boom", "fine"], model="fake:fail=boom", limits={"max_failed_share": 0.1})
    ended = drive(bad, submission="lightmill-bad-1").ends[-1][0]
    status = Status.load(open_bucket(bad.output))
    assert (ended, status.exit_code, status.state, status.submission) == (4, 4, "finished", "lightmill-bad-1")


def test_a_watch_ends_with_the_drivers_own_last_word(tmp_path):
    spec = finished(tmp_path)
    problem = {"code": "LM1611", "message": "too many"}
    events = [{"event": "say", "text": "hello"}, {"event": "error", "problems": [problem]}]
    events.append({"event": "end", "exit_code": 4, "message": "finished"})
    log = "Running entrypoint\n" + "".join(json.dumps(event) + "\n" for event in events) + '{"event" cut'
    head = Cluster(submitted("a"), submitted("a", "FAILED", exit_code=4), log=log)
    end = Watch(open_bucket(spec.output), Shown(), head, "a", sleep=lambda _: None).until_over()
    assert (end.exit_code, end.text) == (4, "finished")
    assert [one.code for one in end.problems] == ["LM1611"]
    assert last_words("") == ({}, ())


@pytest.mark.parametrize(
    ("job", "log", "exit_code", "code"),
    [
        (submitted("a", "FAILED", exit_code=-9), "Killed", 1, "LM1614"),
        (submitted("a", "FAILED", message="working_dir could not be set up"), "", 6, "LM1508"),
        (submitted("a", "STOPPED"), "", 143, None),
    ],
)
def test_a_driver_without_a_last_word_is_told_by_the_cluster(job, log, exit_code, code, tmp_path):
    spec = finished(tmp_path)  # by another run: what the store says is not of this one
    end = Watch(open_bucket(spec.output), Shown(), Cluster(job, log=log), "a", sleep=lambda _: None).until_over()
    assert end.exit_code == exit_code
    assert [problem.code for problem in end.problems] == ([code] if code else [])


def test_without_a_cluster_the_store_tells_the_end(tmp_path):
    spec = make_spec(tmp_path)
    drive(spec, submission="a")
    shown = Shown()
    head = Cluster(ClusterError(Problem("LM1501", "no Ray cluster answers")))
    end = Watch(open_bucket(spec.output), shown, head, "a", sleep=lambda _: None).until_over()
    assert end.exit_code == 0
    assert shown.said == ["no Ray cluster answers; following what the store says"]
    assert shown.states == ["finished"]


def test_a_submission_that_found_its_job_finished_has_left_no_word(tmp_path):
    """Without a cluster to ask, the finished job is its end; one that is stopped may still be resumed by it."""
    spec = finished(tmp_path)
    bucket = open_bucket(spec.output)
    assert Watch(bucket, Shown(), None, "later", sleep=lambda _: None).until_over().exit_code == 0
    stopped = Status.load(bucket).model_copy(update={"state": "stopped"})
    assert not is_of(stopped, "later", asked=False)
    assert is_of(stopped, None, asked=False)
    assert not is_of(Status.load(bucket), "later", asked=True)


def test_a_driver_that_is_silent_on_a_cluster_that_is_gone_is_given_up(tmp_path):
    spec = finished(tmp_path)
    bucket = open_bucket(spec.output)
    status = Status.load(bucket).model_copy(update={"state": "running", "exit_code": None})
    bucket.put("status.json", status.model_dump_json().encode())
    assert silence(bucket, Status.load(bucket)) is None
    os.utime(Path(spec.output) / "status.json", (time.time() - 600, time.time() - 600))
    with pytest.raises(ClusterError) as lost:
        Watch(bucket, Shown(), sleep=lambda _: None).until_over()
    assert lost.value.code == "LM1510"


def test_a_driver_whose_clock_is_slow_is_not_silent(tmp_path):
    spec = finished(tmp_path)
    bucket = open_bucket(spec.output)
    slow = datetime.now(UTC) - timedelta(minutes=10)
    status = Status.load(bucket).model_copy(update={"state": "running", "updated_at": slow})
    bucket.put("status.json", status.model_dump_json().encode())
    assert silence(bucket, Status.load(bucket)) is None


def test_a_store_that_is_away_for_a_moment_is_waited_for(tmp_path, monkeypatch):
    spec = make_spec(tmp_path)
    drive(spec, submission="a")
    bucket, shown, answers = open_bucket(spec.output), Shown(), [1, 1, 0]
    load = Status.load

    def weather(bucket):
        if answers.pop(0):
            raise StorageError(Problem("LM1308", "the store is away"))
        return load(bucket)

    monkeypatch.setattr(Status, "load", weather)
    assert Watch(bucket, shown, sleep=lambda _: None).until_over().exit_code == 0
    assert shown.said == ["the store is away; trying again"]


def test_a_store_that_goes_while_the_log_is_read_is_waited_for(tmp_path, monkeypatch):
    spec = make_spec(tmp_path)
    drive(spec, submission="a")
    own, shown, answers = Journal.new_lines, Shown(), [0, 1, 1, 0]

    def weather(journal):
        if answers.pop(0):
            raise StorageError(Problem("LM1308", "the store is away"))
        return own(journal)

    monkeypatch.setattr(Journal, "new_lines", weather)
    end = Watch(open_bucket(spec.output), shown, sleep=lambda _: None).until_over(with_log=True)
    assert (end.exit_code, shown.said) == (0, ["the store is away; trying again"])


@pytest.mark.parametrize("words", [("status", "--watch"), ("logs", "--follow")])
def test_who_watches_waits_for_a_store_that_is_away(words, tmp_path, monkeypatch):
    spec = finished(tmp_path)
    bucket = open_bucket(spec.output)
    over = Status.load(bucket)
    answers = [over.model_copy(update={"state": "running"}), StorageError(Problem("LM1308", "the store is away")), over]

    def load(bucket):
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(Status, "load", load)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    said = lightmill(words[0], spec.output, *words[1:])
    assert (said.status, answers) == (0, [over])
    assert "the store is away; trying again" in said.err
    assert said.out


def test_the_newest_driver_is_the_one_at_work(tmp_path):
    """One that was frozen has just renewed a claim that another one has taken over."""
    bucket, here = open_bucket(str(tmp_path)), Holder.here("run")
    bucket.put(claim_key(2, uuid4()), claim_body("held", "new", here))
    bucket.put(claim_key(1, uuid4()), claim_body("held", "thawed", here))
    assert driving(bucket) == "new"


def test_a_job_that_a_new_cluster_does_not_know_is_told_by_the_store(tmp_path):
    unknown = Cluster(InputError(Problem("LM1509", "no such job")))
    spec = make_spec(tmp_path)
    with pytest.raises(InputError):
        Watch(open_bucket(spec.output), Shown(), unknown, "a", sleep=lambda _: None).until_over()
    drive(spec, submission="a")
    assert Watch(open_bucket(spec.output), Shown(), unknown, "a", sleep=lambda _: None).until_over().exit_code == 0


@pytest.mark.parametrize("words", [("status", "--watch"), ("logs", "--follow"), ("attach",), ("stop",)])
def test_ctrl_c_ends_the_command_and_not_the_run(words, tmp_path, monkeypatch):
    spec = finished(tmp_path)
    bucket = open_bucket(spec.output)
    status = Status.load(bucket).model_copy(update={"state": "running", "updated_at": datetime.now(UTC)})

    def interrupt(seconds):
        raise KeyboardInterrupt

    with Lease(bucket, "strong", "run") as lease:
        bucket.put("status.json", status.model_copy(update={"driver": lease.token}).model_dump_json().encode())
        monkeypatch.setattr(time, "sleep", interrupt)
        said = lightmill(words[0], spec.output, *words[1:])
        assert (said.status, said.codes) == (130, [])
        monkeypatch.undo()
        asked = StopRequest.load(bucket)
        assert (asked.driver if asked else None) == (lease.token if words == ("stop",) else None)
    if words == ("attach",):
        assert f"detached; the run goes on. `lightmill attach {spec.output}` comes back" in said.err


def _fail():
    raise StorageError(Problem("LM1308", "the store is away"))


def test_a_journal_has_each_line_once_in_the_order_of_time(tmp_path, monkeypatch):
    bucket = open_bucket(str(tmp_path))

    def line(second, message):
        return json.dumps({"time": f"2026-11-27T10:00:{second:02d}", "level": "INFO", "message": message}) + "\n"

    bucket.put("logs/driver-0000.jsonl", (line(1, "a") + line(3, "c")).encode())
    bucket.put("logs/worker-x-0000.jsonl", line(2, "b").encode())
    journal = Journal(bucket)
    assert [(entry["message"], entry["log"]) for entry in journal.new_lines()] == [
        ("a", "driver-0000"),
        ("b", "worker-x-0000"),
        ("c", "driver-0000"),
    ]
    assert journal.new_lines() == []
    bucket.put("logs/driver-0000.jsonl", (line(1, "a") + line(3, "c") + line(4, "d")).encode())
    assert [entry["message"] for entry in journal.new_lines()] == ["d"]
    for key in ("logs/driver-0001.jsonl", "logs/driver-0002.jsonl"):
        bucket.put(key, line(5, key[5:16]).encode())
    with monkeypatch.context() as patch:
        patch.setattr(type(bucket), "get", lambda _, key: _fail() if "0002" in key else line(5, "driver-0001").encode())
        with pytest.raises(StorageError):
            journal.new_lines()
    assert [entry["message"] for entry in journal.new_lines()] == ["driver-0001", "driver-0002"]
    assert [entry["message"] for entry in Journal(bucket, "worker").new_lines()] == ["b"]


def test_what_ray_does_to_sigterm_is_undone():
    """`ray.init` does just this; the integration tests stop a driver on a real cluster."""
    before = signal.getsignal(signal.SIGTERM)
    with keeping_sigterm():
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(15))
    assert signal.getsignal(signal.SIGTERM) is before


def test_clean_keeps_the_table_that_was_uploaded_and_no_other(tmp_path):
    """It was rewritten, so that no worker reads it; the next submission is compared with it all the same."""
    uploaded = tmp_path / "out" / "prompts" / "0123456789ab" / "cats.csv"
    uploaded.parent.mkdir(parents=True)
    uploaded.write_text("prompt\na cat\n")
    spec = finished(tmp_path, table=str(uploaded))
    bucket = open_bucket(spec.output)
    bucket.put("prompts/fedcba987654/dogs.csv", b"prompt\na dog\n")
    found = find_leftovers(bucket, Manifest.load(bucket), older_than=timedelta(seconds=-1))  # which is everything
    assert [leftover.key for leftover in found if leftover.key.startswith("prompts/")] == [
        "prompts/fedcba987654/dogs.csv"
    ]
