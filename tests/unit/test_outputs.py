"""What a finished output is held to: verify finds every fault, clean takes only what nobody names, retry mends."""

import json
import os
import shutil
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from actors import metadata
from actors.errors import InputError
from actors.storage.opening import open_bucket
from builders import NO_FENCE, drive, finished, make_spec, read_rows
from jobs import dataset_card, index
from jobs.clean import find_leftovers, remove
from jobs.lookup import Lookup
from jobs.manifest import Manifest
from jobs.retry import find_failures
from jobs.status import Status
from jobs.verify import verify
from thread_pool import ThreadPool


@pytest.fixture
def spec(tmp_path):
    return finished(tmp_path, ["a", "b", "c", "boom", "e", "f"], **{"models": [{"model": "fake:fail=boom"}]})


@pytest.fixture
def out(spec):
    return Path(spec.output)


def faults(spec):
    bucket = open_bucket(spec.output)
    manifest = Manifest.load(bucket)
    return sorted({fault.code for checked in verify(bucket, manifest) for fault in checked.faults})


def orphans(spec):
    bucket = open_bucket(spec.output)
    return [key for checked in verify(bucket, Manifest.load(bucket)) for key in checked.orphans]


def leftovers(spec, older_than=timedelta(days=1)):
    bucket = open_bucket(spec.output)
    return list(find_leftovers(bucket, Manifest.load(bucket), older_than))


def age(path: Path, hours: float):
    then = path.stat().st_mtime - hours * 3600
    os.utime(path, (then, then))


def rewrite(out: Path, change, shard=0):
    """The metadata of a shard with other rows."""
    path = out / f"metadata/{shard:09d}.parquet"
    table = pq.read_table(path)
    pq.write_table(change(table), path)


def test_a_sound_output_has_no_fault(spec):
    assert faults(spec) == []
    assert orphans(spec) == []


def flip(path: Path, offset: int):
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def some_tar(out):
    return min(out.glob("images/*.tar"))


def image_offset(out):
    table = pq.read_table(out / "metadata/000000000.parquet")
    return table["file_offset"][0].as_py() + 40


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda out: flip(some_tar(out), image_offset(out)), "LM1806"),
        (lambda out: flip(some_tar(out), -700), "LM1805"),
        (lambda out: some_tar(out).write_bytes(some_tar(out).read_bytes()[:-512]), "LM1805"),
        (lambda out: some_tar(out).unlink(), "LM1804"),
        (lambda out: rewrite(out, lambda table: table.slice(1)), "LM1803"),
        (lambda out: rewrite(out, lambda table: table.take([0, 0, 1, 2])), "LM1803"),
        (lambda out: rewrite(out, lambda table: table.drop_columns(["sha256"])), "LM1802"),
        (lambda out: rewrite(out, lambda table: table.replace_schema_metadata(None)), "LM1802"),
        (lambda out: (out / "metadata/000000000.parquet").write_bytes(b"no parquet"), "LM1802"),
        (lambda out: (out / "metadata/000000001.parquet").unlink(), "LM1801"),
        (lambda out: (out / "index.parquet").unlink(), "LM1807"),
    ],
    ids=[
        "a bit of an image",
        "a bit between images",
        "a tar cut short",
        "a tar gone",
        "a row gone",
        "a row twice",
        "a column gone",
        "no header",
        "no Parquet",
        "a shard gone",
        "no index",
    ],
)
def test_verify_finds(spec, out, damage, code):
    damage(out)
    assert code in faults(spec)


def test_what_a_dead_worker_left_is_no_fault_and_goes_after_a_day(spec, out):
    orphan = out / "images/000000000-0123456789ab.tar"
    orphan.write_bytes(b"half a shard")
    assert faults(spec) == []
    assert orphans(spec) == ["images/000000000-0123456789ab.tar"]
    assert leftovers(spec) == []
    age(orphan, 25)

    bucket = open_bucket(spec.output)
    (leftover,) = leftovers(spec)
    remove(bucket, leftover, NO_FENCE)

    assert not orphan.exists()
    assert faults(spec) == []


def test_clean_never_takes_what_a_shard_names_however_old(spec, out):
    for path in out.rglob("*"):
        if path.is_file():
            age(path, 1000)
    assert leftovers(spec) == []


def test_of_old_leases_the_newest_stays(spec, out):
    drive(spec.model_copy(update={"limits": spec.limits}), purpose="retry")
    leases = sorted(out.glob("leases/*.json"))
    assert len(leases) == 2
    for lease in leases:
        age(lease, 30)
    assert [leftover.key for leftover in leftovers(spec)] == [f"leases/{leases[0].name}"]


def test_a_copy_is_as_sound_as_the_original(spec, out, tmp_path):
    shutil.copytree(out, tmp_path / "copy")
    assert faults(spec.model_copy(update={"output": str(tmp_path / "copy")})) == []


def test_of_the_smallest_sample_one_shard_is_read(spec):
    bucket = open_bucket(spec.output)
    checked = list(verify(bucket, Manifest.load(bucket), sample=0.001))
    assert sum(found.images > 0 for found in checked) == 1


def test_retry_makes_the_failed_rows_again_and_leaves_the_others_as_they_are(spec, out):
    before = read_rows(spec)
    assert [row["error_code"] for row in before.values() if row["status"] == "failed"] == ["LM1603"]
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["spec"]["models"][0]["model"] = "fake"  # the cause is gone
    (out / "manifest.json").write_text(json.dumps(manifest))
    mended = Manifest.load(open_bucket(spec.output)).spec

    leash = drive(mended, purpose="retry")

    assert leash.ends[-1][0] == 0, leash.errors
    after = read_rows(mended)
    assert {row["status"] for row in after.values()} == {"ok"}
    untouched = [key for key, row in before.items() if row["status"] == "ok"]
    assert {key: after[key] for key in untouched} == {key: before[key] for key in untouched}
    assert faults(mended) == []
    header = metadata.read_header((out / "metadata/000000000.parquet").read_bytes())
    assert header.replaces is not None
    assert len(header.files) == 2
    status = Status.load(open_bucket(spec.output))
    assert (status.state, status.done, status.committed, status.total) == ("finished", 6, 6, 6)


def test_retry_may_be_asked_for_one_kind_of_failure(spec):
    bucket = open_bucket(spec.output)
    assert {shard: len(rework.keys) for shard, rework in find_failures(bucket, "LM1603").rework.items()} == {0: 1}
    assert find_failures(bucket, "LM1601").rework == {}


def test_retry_starts_nothing_for_rows_that_are_bad_themselves(tmp_path):
    spec = make_spec(tmp_path, ["colour", "", "grey", " "])
    assert drive(spec).ends[-1][0] == 0
    before = read_rows(spec)
    given = []

    leash = drive(spec, ThreadPool(assigned=given.append), purpose="retry")

    assert leash.ends[-1][0] == 0
    assert "nothing to retry: no other committed row" in leash.ends[-1][1]["message"]
    assert [text.splitlines()[0] for text in leash.said] == [
        "note[LM1615]: 2 failed images cannot be made by trying again, as the rows of the table are at fault: "
        "2 for LM1003"
    ]
    assert "help: put the rows, mended, into a table of their own" in leash.said[0]
    assert given == []
    assert read_rows(spec) == before


def test_retry_leaves_bad_rows_and_makes_the_others(tmp_path):
    spec = make_spec(tmp_path, ["colour", "", "boom", "grey"], model="fake:fail=boom")
    assert drive(spec).ends[-1][0] == 0
    orders = []

    leash = drive(spec, ThreadPool(assigned=orders.append), purpose="retry")

    assert leash.ends[-1][0] == 0, leash.errors
    assert any(text.startswith("note[LM1615]: 1 failed image cannot") for text in leash.said)
    assert [len(order.only) for order in orders] == [1]
    assert {row["error_code"] for row in read_rows(spec).values() if row["status"] == "failed"} == {"LM1003", "LM1603"}


@pytest.mark.parametrize("most", [2, 3])
def test_the_card_names_the_tars_unless_they_are_too_many(tmp_path, monkeypatch, most):
    monkeypatch.setattr(dataset_card, "MOST_FILES", most)
    out = Path(finished(tmp_path, 12).output)
    (out / "images/000000000-0123456789ab.tar").touch()  # of a worker that died
    _, front, body = (out / "README.md").read_text().split("---\n", 2)
    (config,) = yaml.safe_load(front)["configs"]
    tars = (out / "shards.txt").read_text().split()
    assert len(tars) == 3
    assert config["data_files"] == [{"split": "train", "path": tars if most == 3 else "metadata/*.parquet"}]
    assert 'open("shards.txt")' in body
    assert ("They are 3, too many to be named above" in body) == (most == 2)


def test_an_index_of_other_metadata_is_no_index(spec, out):
    bucket = open_bucket(spec.output)
    assert index.read_totals(bucket).images == 6
    rewrite(out, lambda table: table)
    assert index.read_totals(bucket) is None
    assert drive(spec).ends[-1][0] == 0
    assert index.read_totals(bucket).images == 6


def test_a_finished_job_generates_nothing_when_it_is_run_again(spec, out):
    def everything():
        return {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}

    before = everything()
    leash = drive(spec)
    assert "already there" in leash.ends[-1][1]["message"]
    assert everything() == before


def test_another_recipe_is_refused_field_by_field_and_what_may_change_may(spec):
    other = spec.model_copy(update={"seed": 7, "shard_size": 3})
    leash = drive(other)
    assert leash.ends[-1][0] == InputError.exit_code
    assert [problem.where for problem in leash.errors[0].problems] == ["seed", "shard_size"]
    free = spec.model_copy(update={"name": "other", "limits": spec.limits.model_copy(update={"max_attempts": 9})})
    assert drive(free).ends[-1][0] == 0


def test_another_table_under_the_same_name_is_refused(tmp_path):
    spec = finished(tmp_path, 5)
    make_spec(tmp_path, 6)
    leash = drive(spec)
    assert leash.ends[-1][0] == InputError.exit_code
    assert leash.errors[0].problems[0].where.startswith("table")


def test_what_a_desktop_leaves_in_folders_stands_in_nobodys_way(tmp_path):
    spec = make_spec(tmp_path, 6)
    for folder in ("leases", "metadata", "logs"):
        (tmp_path / "out" / folder).mkdir(parents=True)
        (tmp_path / "out" / folder / ".DS_Store").write_bytes(b"Bud1")
    leash = drive(spec)
    assert leash.ends[-1][0] == 0, leash.errors
    assert faults(spec) == []
    assert drive(spec, purpose="retry").ends[-1][0] == 0
    assert len(list(Lookup(open_bucket(spec.output), Manifest.load(open_bucket(spec.output))).all())) == 2
    assert "already there" in drive(spec).ends[-1][1]["message"]


def test_a_newer_schema_is_refused_by_name(spec, out):
    manifest = json.loads((out / "manifest.json").read_text())
    (out / "manifest.json").write_text(json.dumps({**manifest, "schema_version": 99}))
    with pytest.raises(InputError, match="LM1313"):
        Manifest.load(open_bucket(spec.output))


def test_a_moved_output_is_still_whole(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("id,prompt\n" + "".join(f"{row},cat {row}\n" for row in range(6)))
    spec = make_spec(tmp_path, table=str(table))
    drive(spec)
    for shard in Path(spec.output).glob("metadata/*1.parquet"):
        shard.unlink()
    moved = spec.model_copy(update={"output": str(tmp_path / "elsewhere")})
    Path(spec.output).rename(moved.output)
    assert drive(moved).ends[-1][0] == 0
    assert len(read_rows(moved)) == 6
    assert faults(moved) == []


@given(st.data())
@settings(max_examples=150)
def test_an_index_with_a_flipped_bit_never_stands_in_the_way(sound, data):
    bucket, index_bytes = sound
    damaged = bytearray(index_bytes)
    place = data.draw(st.integers(0, len(damaged) * 8 - 1))
    damaged[place // 8] ^= 1 << place % 8
    bucket.put("index.parquet", bytes(damaged))
    assert index.read_totals(bucket) is None or index.read_totals(bucket).shards == 2
    index.is_current(bucket)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    spec = finished(tmp_path_factory.mktemp("sound"), 6)
    bucket = open_bucket(spec.output)
    return bucket, bucket.get("index.parquet")
