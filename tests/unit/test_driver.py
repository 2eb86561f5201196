"""The loop of a run, over real workers in threads that die, freeze, repeat themselves and come late."""

import time
from collections import Counter
from threading import Event, Timer

import pytest

from actors.device import Device
from actors.errors import Problem, StorageError
from actors.records import Beat, ShardReport, sample_key
from actors.storage.opening import open_bucket
from builders import MODEL, QuietLeash, drive, make_spec, make_table, read_rows
from jobs import status
from jobs.claims import Claims
from jobs.commit import Committer
from jobs.dispatch import STRIKES
from jobs.manifest import Manifest
from jobs.nodes import LEFT_OUT
from jobs.status import Status
from jobs.verify import verify
from servers.moto import moto_server as start_moto
from servers.store import place_on
from thread_pool import ThreadPool

ROWS = 14
SHARDS = 4
STOPPED_WITHIN_SECONDS = 60
"""It takes 5 to 10; a store that is away is otherwise waited for 900."""


class Fate:
    """Deliver everything but the n-th item of a kind, which meets with `what`; and note what was made."""

    def __init__(self, what="deliver", kind=object, number=1, key=None):
        self.what, self.kind, self.number, self.key = what, kind, number, key
        self.seen = 0

    def __call__(self, worker, shard, item):
        if not isinstance(item, self.kind) or (self.key and self.key not in getattr(item, "announced", ())):
            return "deliver"
        self.seen += 1
        return self.what if self.number in (self.seen, 0) else "deliver"


def pictures(spec):
    return {key: (row["status"], row["sha256"]) for key, row in read_rows(spec).items()}


def faults(spec):
    bucket = open_bucket(spec.output)
    return [fault for checked in verify(bucket, Manifest.load(bucket)) for fault in checked.faults]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    spec = make_spec(tmp_path_factory.mktemp("undisturbed"), ROWS)
    assert drive(spec).ends[-1][0] == 0
    return pictures(spec)


def drive_with(folder, fate, workers=2, **options):
    """The spec, the leash, and how often each shard was handed out."""
    spec = make_spec(folder, ROWS, workers=workers)
    given = Counter()
    pool = ThreadPool(fate, assigned=lambda order: given.update([order.shard.index]), **options)
    return spec, drive(spec, pool), given, pool


FATES = ["kill", "kill after", "freeze", "delay"]
ITEMS = [(Beat, 1), (Beat, 2), (Beat, 5), (ShardReport, 1), (ShardReport, 2), (ShardReport, SHARDS)]


@pytest.mark.parametrize(
    ("workers", "what", "kind", "number"),
    [  # each fate at each item, alone or among three, so that either meets with every fate and every item
        ((1, 3)[(fate + item) % 2], FATES[fate], *ITEMS[item])
        for fate in range(len(FATES))
        for item in range(len(ITEMS))
    ],
)
def test_whatever_becomes_of_a_worker_every_image_is_there_once(tmp_path, undisturbed, workers, what, kind, number):
    spec, leash, given, pool = drive_with(tmp_path, Fate(what, kind, number), workers)
    pool.thaw()

    assert leash.ends[-1][0] == 0, leash.errors
    assert pictures(spec) == undisturbed
    assert faults(spec) == []
    assert given.total() <= SHARDS + (0 if what == "delay" else 2)


def test_a_frozen_worker_that_thaws_leaves_a_file_that_nobody_names(tmp_path, undisturbed):
    spec, _, _, pool = drive_with(tmp_path, Fate("freeze", Beat, 2), workers=1)
    before = {info.key: info.etag for info in open_bucket(spec.output).list("metadata/")}
    pool.thaw()
    pool.close()

    bucket = open_bucket(spec.output)
    assert {info.key: info.etag for info in bucket.list("metadata/")} == before
    assert pictures(spec) == undisturbed
    assert faults(spec) == []
    assert [key for checked in verify(bucket, Manifest.load(bucket)) for key in checked.orphans] != []


def test_a_shard_that_is_run_twice_is_committed_once(tmp_path, undisturbed):
    spec, leash, given, _ = drive_with(tmp_path, Fate(), runs=2)

    assert leash.ends[-1][0] == 0
    assert leash.ends[-1][1]["made"] == ROWS
    assert pictures(spec) == undisturbed
    assert given.total() == SHARDS


def test_a_shard_that_two_workers_make_is_committed_once(tmp_path):
    """The second worker is idle while the first is slow: it gets a copy, and both come to an end."""
    spec = make_spec(tmp_path, 8, workers=2)
    held = {}

    def fate(worker, shard, item):
        held.setdefault(shard.index, worker)
        if held.setdefault("slow", worker) == worker and isinstance(item, Beat):
            time.sleep(4)
        return "deliver"

    given = Counter()
    leash = drive(spec, ThreadPool(fate, assigned=lambda order: given.update([order.shard.index])))

    assert leash.ends[-1][0] == 0, leash.errors
    assert leash.ends[-1][1]["made"] == 8 == len(read_rows(spec))
    assert given.total() == 3
    assert any("is expected to take longer" in text for text in leash.said)
    assert faults(spec) == []


def test_an_image_that_kills_every_worker_is_a_failed_row_and_the_others_are_made(tmp_path, undisturbed):
    key = sample_key(6, 0, 0)
    spec, leash, _, _ = drive_with(tmp_path, Fate("kill after", Beat, number=0, key=key), workers=1)

    assert leash.ends[-1][0] == 0
    rows = read_rows(spec)
    assert (rows[key]["status"], rows[key]["error_code"]) == ("failed", "LM1606")
    assert {name: found for name, found in pictures(spec).items() if name != key} == {
        name: found for name, found in undisturbed.items() if name != key
    }


@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_prompt_that_kills_where_it_is_encoded_ahead_fails_no_other_image(tmp_path, monkeypatch, batch_size):
    """The worker is gone before its next word is heard: those on the device are known, and the one to come is not."""
    own, dying, deaths = Device.paint, Event(), []

    def paint(device, batch, ahead=()):
        if any(one.prompt.text == "colour 7" for one in (*batch.requests, *ahead)):
            dying.set()
        return own(device, batch, ahead)

    def fate(worker, shard, item):
        if not dying.is_set():
            return "deliver"
        dying.clear()
        deaths.append(worker)
        return "kill"

    monkeypatch.setattr(Device, "paint", paint)
    models = [{**MODEL, "batch_size": batch_size, "workers": {"max": 1}}]
    spec = make_spec(tmp_path, 12, shard_size=12, models=models)
    leash = drive(spec, ThreadPool(fate))

    assert leash.ends[-1][0] == 0, leash.errors
    failed = {key: row["error_code"] for key, row in read_rows(spec).items() if row["status"] != "ok"}
    assert failed == {sample_key(7, 0, 0): "LM1606"}
    assert len(deaths) == STRIKES + 1 < LEFT_OUT


def test_what_has_to_be_made_again_is_not_done(tmp_path, monkeypatch):
    """Its file was gone before the commit."""
    monkeypatch.setattr(status, "TELL_SECONDS", 0)
    spec, leash, done, lost = make_spec(tmp_path, 4), QuietLeash(), [], []
    leash.status = lambda told: done.append(told["done"])

    def fate(worker, shard, item):
        if isinstance(item, ShardReport) and not lost:
            lost.append(item.files[0].file)
            open_bucket(spec.output).delete(lost[0])
        return "deliver"

    drive(spec, ThreadPool(fate), leash=leash)

    assert min(done[done.index(4) :]) == 0


def test_a_mistake_of_ours_ends_the_run_and_its_status_says_so(tmp_path, monkeypatch):
    def stumble(committer, report):
        raise ZeroDivisionError("by nought")

    monkeypatch.setattr(Committer, "commit", stumble)
    spec = make_spec(tmp_path, ROWS)
    leash = drive(spec)

    said = Status.load(open_bucket(spec.output))
    assert (leash.ends[-1][0], leash.errors[0].code) == (1, "LM1999")
    assert (said.state, said.exit_code) == ("failed", 1)
    assert "ZeroDivisionError: by nought" in said.message


def test_a_file_that_vanishes_before_the_commit_is_made_again(tmp_path, undisturbed):
    spec = make_spec(tmp_path, ROWS)
    lost = []

    def fate(worker, shard, item):
        if isinstance(item, ShardReport) and not lost:
            lost.append(item.files[0].file)
            open_bucket(spec.output).delete(lost[0])
        return "deliver"

    leash = drive(spec, ThreadPool(fate))

    assert leash.ends[-1][0] == 0
    assert any("the store has none" in text for text in leash.said)
    assert pictures(spec) == undisturbed
    assert faults(spec) == []


def test_a_run_that_is_stopped_leaves_what_the_next_one_finishes(tmp_path, undisturbed):
    spec = make_spec(tmp_path, ROWS, model="fake:pace=0.01")
    leash = QuietLeash()

    def fate(worker, shard, item):
        if isinstance(item, ShardReport):
            leash.stopping.set()
        return "deliver"

    drive(spec, ThreadPool(fate), leash=leash)

    assert leash.ends[-1][0] == 130
    assert 0 < len(read_rows(spec)) < ROWS
    assert drive(spec).ends[-1][0] == 0
    assert pictures(spec) == undisturbed


@pytest.mark.parametrize("kind", [Beat, ShardReport], ids=["while it uploads", "while it commits"])
def test_a_run_whose_store_is_away_is_stopped_in_seconds(tmp_path, undisturbed, monkeypatch, kind):
    leash = QuietLeash()
    gone = []
    with start_moto() as server:
        store = place_on(server, server.endpoint, monkeypatch)
        spec = make_spec(tmp_path, ROWS, output=store.url)

        def fate(worker, shard, item):
            if isinstance(item, kind) and not gone:
                server.kill_gateway()
                gone.append(time.monotonic())
                Timer(1, leash.stopping.set).start()
            return "deliver"

        drive(spec, ThreadPool(fate), leash=leash)

        assert time.monotonic() - gone[0] < STOPPED_WITHIN_SECONDS
        assert leash.ends[-1][0] == 130, (leash.ends, leash.errors)
        assert leash.errors == []
        server.start_gateway()
        bucket = open_bucket(spec.output)
        for info in list(bucket.list("leases/")):  # of a process that lives: this one
            bucket.delete(info.key)
        assert drive(spec).ends[-1][0] == 0
        assert pictures(spec) == undisturbed
        assert faults(spec) == []


def test_a_commit_of_which_nobody_knows_keeps_the_lease(tmp_path, undisturbed, monkeypatch):
    """Its reply was lost, and then the run was stopped: it may land until the lease has ended, so nobody may drive."""
    spec, leash = make_spec(tmp_path, ROWS), QuietLeash()
    bucket = open_bucket(spec.output)
    own = type(bucket).put

    def lose(bucket, key, data, **conditions):
        if not key.startswith("metadata/"):
            return own(bucket, key, data, **conditions)
        leash.stopping.set()
        raise StorageError(Problem("LM1308", "no reply"))

    with monkeypatch.context() as patch:
        patch.setattr(type(bucket), "put", lose)
        drive(spec, leash=leash)

    assert (leash.ends[-1][0], leash.errors) == (130, [])
    assert Status.load(bucket).state == "stopped"
    assert [claim.state for claim in Claims.read(bucket).live] == ["held"]
    for info in list(bucket.list("leases/")):
        bucket.delete(info.key)
    assert drive(spec).ends[-1][0] == 0
    assert pictures(spec) == undisturbed
    assert Claims.read(bucket).live == ()


def test_a_finished_job_generates_nothing(tmp_path):
    spec = make_spec(tmp_path, ROWS)
    drive(spec)
    given = []
    leash = drive(spec, ThreadPool(assigned=given.append))

    assert leash.ends[-1][0] == 0
    assert given == []


def test_two_lanes_make_every_row_each(tmp_path):
    spec = make_spec(tmp_path, 5)
    spec = spec.model_copy(update={"models": (spec.models[0], spec.models[0].model_copy(update={"width": 24}))})

    assert drive(spec).ends[-1][0] == 0
    assert Counter(row["lane"] for row in read_rows(spec).values()) == {0: 5, 1: 5}
    assert faults(spec) == []


def test_rows_that_name_their_model_are_made_by_that_lane_alone(tmp_path):
    models = ["fake", "fake:pace=0"] * 4 + ["fake"]
    table = make_table(tmp_path, len(models), model=models)
    spec = make_spec(tmp_path, table=table, overrides=["model"], shard_size=2)
    second = spec.models[0].model_copy(update={"model": "fake:pace=0"})
    spec = spec.model_copy(update={"models": (spec.models[0], second)})

    assert drive(spec).ends[-1][0] == 0
    assert {row["source_row"]: row["lane"] for row in read_rows(spec).values()} == {
        row: ["fake", "fake:pace=0"].index(model) for row, model in enumerate(models)
    }
    assert faults(spec) == []
