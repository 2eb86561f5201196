"""What makes a shard exist, and what never changes it again."""

from contextlib import suppress

import pytest

from actors import metadata
from actors.errors import Problem, StorageError
from builders import make_manifest, make_report, make_spec
from jobs.claims import Claims
from jobs.commit import Committer, DataMissing, Superseded
from jobs.lease import Lease, LeaseLost
from memory_bucket import MemoryBucket
from weak_bucket import WeakBucket

KINDS = ["strong", "racy", "ignoring"]


class Held:
    """A lease that is held, until it is lost."""

    lost = is_in_doubt = False

    def require(self):
        if self.lost:
            raise LeaseLost(Problem("LM1310", "the lease expired"))


class Scene:
    def __init__(self, folder, kind):
        self.kind = kind
        self.memory = MemoryBucket()
        self.bucket = self.memory if kind == "strong" else WeakBucket(self.memory)
        self.manifest = make_manifest(make_spec(folder, 8), self.bucket, kind)
        self.lease = Held()
        self.committer = Committer(self.bucket, self.lease, kind)

    def report(self, attempt, **more):
        return make_report(self.manifest, 1, self.bucket, attempt, **more)

    def stands(self):
        return metadata.read_header(self.memory.objects["metadata/000000001.parquet"])

    def at_the_next_put_of_metadata(self, act):
        def before_write(key, size):
            if key.startswith("metadata/"):
                self.memory.before_write = lambda key, size: None
                act()

        self.memory.before_write = before_write

    def lose_the_next_reply(self):
        """The store does it, the client hears nothing and sends it again."""
        put = self.memory.put

        def twice(key, data, **named):
            self.memory.put = put
            put(key, data, **named)
            return put(key, data, **named)

        self.memory.put = twice


@pytest.fixture(params=KINDS)
def scene(request, tmp_path):
    return Scene(tmp_path, request.param)


@pytest.fixture
def strong(tmp_path):
    return Scene(tmp_path, "strong")


def test_the_first_attempt_to_be_committed_stands_for_ever(scene):
    assert scene.committer.commit(scene.report("first")).attempt == "first"
    before = dict(scene.memory.objects)

    assert scene.committer.commit(scene.report("second")).attempt == "first"
    assert scene.memory.objects["metadata/000000001.parquet"] == before["metadata/000000001.parquet"]


def test_a_lost_reply_is_a_commit_all_the_same(scene):
    scene.lose_the_next_reply()

    assert scene.committer.commit(scene.report("first")).attempt == "first"


def test_where_the_store_refuses_what_stands_there_is_told(strong):
    strong.at_the_next_put_of_metadata(lambda: strong.committer.commit(strong.report("other")))

    assert strong.committer.commit(strong.report("ours")).attempt == "other"


def test_nothing_is_committed_of_which_a_file_is_gone(scene):
    report = scene.report("first")
    scene.memory.delete(report.files[0].file)

    with pytest.raises(DataMissing, match=r"the store has none"):
        scene.committer.commit(report)
    assert "metadata/000000001.parquet" not in scene.memory.objects


def test_nothing_is_committed_of_which_a_file_was_cut(scene):
    report = scene.report("first")
    scene.memory.put(report.files[0].file, b"cut")

    with pytest.raises(DataMissing, match=r"the store has 3"):
        scene.committer.commit(report)


def test_the_lease_is_asked_right_before_the_write(scene):
    def lose():
        scene.lease.lost = True

    scene.at_the_next_put_of_metadata(lose)
    with pytest.raises(LeaseLost):
        scene.committer.commit(scene.report("first"))
    assert "metadata/000000001.parquet" not in scene.memory.objects


def failed_once(scene):
    scene.committer.commit(scene.report("first", statuses=["failed"]))
    rows = metadata.read_metadata(scene.memory.objects["metadata/000000001.parquet"]).table.to_pylist()
    return {row["key"] for row in rows if row["status"] == "failed"}


def test_a_retry_puts_new_rows_in_the_place_of_the_failed_ones_alone(scene):
    failed = failed_once(scene)

    header = scene.committer.replace(scene.report("second", only=failed), "first")

    table = metadata.read_metadata(scene.memory.objects["metadata/000000001.parquet"]).table
    assert (header.attempt, header.replaces) == ("second", "first") == (scene.stands().attempt, scene.stands().replaces)
    assert table["status"].to_pylist() == ["ok"] * 4
    assert sorted(table["attempt"].to_pylist()) == ["first"] * 3 + ["second"]
    assert {file.file for file in header.files} == set(table["file"].to_pylist())


def test_a_retry_of_what_somebody_else_has_replaced_is_refused(scene):
    failed = failed_once(scene)
    scene.committer.replace(scene.report("second", only=failed), "first")

    with pytest.raises(Superseded, match="now of attempt second, not of first"):
        scene.committer.replace(scene.report("third", only=failed), "first")
    assert scene.stands().attempt == "second"


def test_a_retry_that_is_overtaken_at_its_write_is_refused_where_the_store_can(strong):
    failed = failed_once(strong)
    other = strong.report("second", only=failed)
    strong.at_the_next_put_of_metadata(lambda: strong.committer.replace(other, "first"))

    with pytest.raises(Superseded):
        strong.committer.replace(strong.report("third", only=failed), "first")
    assert strong.stands().attempt == "second"


def test_a_lost_reply_to_a_replacement_is_no_refusal(scene):
    failed = failed_once(scene)
    report = scene.report("second", only=failed)
    scene.lose_the_next_reply()

    assert scene.committer.replace(report, "first").attempt == "second"
    assert scene.committer.replace(report, "first").attempt == "second"


def test_a_replacement_asks_for_the_lease_right_before_the_write(scene):
    failed = failed_once(scene)
    report = scene.report("second", only=failed)

    def lose():
        scene.lease.lost = True

    scene.at_the_next_put_of_metadata(lose)
    with pytest.raises(LeaseLost):
        scene.committer.replace(report, "first")
    assert scene.stands().attempt == "first"


@pytest.mark.parametrize("is_heard", [True, False])
def test_a_lease_with_a_commit_that_may_land_yet_is_not_given_back(tmp_path, is_heard):
    """Whatever else ends the run."""
    bucket = MemoryBucket()
    report = make_report(make_manifest(make_spec(tmp_path, 8), bucket), 1, bucket)

    def drive():
        with Lease(bucket, "strong", "run") as lease:
            if not is_heard:
                bucket.before_write = lose
            with suppress(StorageError):
                Committer(bucket, lease, "strong").commit(report)
            raise ZeroDivisionError

    def lose(key, size):
        bucket.before_write = lambda key, size: None
        raise StorageError(Problem("LM1308", "no reply"))

    with pytest.raises(ZeroDivisionError):
        drive()
    (claim,) = Claims.read(bucket).all
    assert claim.state == ("released" if is_heard else "held")
