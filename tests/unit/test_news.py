"""What is new: hashes in parts, sets of rows, and what is picked, against dictionaries and sets of Python."""

import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors import metadata
from actors.errors import StorageError
from actors.records import Shard
from actors.storage.opening import open_bucket
from actors.tables import rewrite
from builders import MODEL
from cluster.schedule import hashes, news
from cluster.schedule import known as known_module
from cluster.schedule.hashes import RECORD, Parts, parts_for
from cluster.schedule.known import Known
from cluster.schedule.rowset import RowSet
from jobs.spec import JobSpec


@given(st.integers(1, 10**9))
def test_parts_are_few_and_small_enough(rows):
    parts = parts_for(rows)
    assert rows <= parts * hashes.PART_ROWS
    assert parts == 1 or rows > parts // 2 * hashes.PART_ROWS


@given(st.lists(st.lists(st.integers(0, 199)), max_size=4))
def test_a_set_of_rows_is_a_set(added):
    rows, expected = RowSet(200), set()
    for numbers in added:
        rows.add(np.array(numbers, np.int64))
        expected |= set(numbers)
    everything = np.arange(200)
    assert everything[rows.has(everything)].tolist() == sorted(expected)
    assert rows.places()(everything).tolist() == [len(expected & set(range(row))) for row in range(200)]
    assert len(rows) == len(expected)


def test_a_set_of_100_million_rows_takes_less_than_a_byte_each():
    tracemalloc.start()
    try:
        rows = RowSet(100_000_000)
        rows.add(np.array([0, 99_999_999]))
        assert rows.places()(np.array([99_999_999])).tolist() == [1]
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


def records(numbers, content):
    made = np.zeros(len(numbers), RECORD)
    made["id"] = np.frombuffer(b"".join(news._hash(str(number)) for number in numbers), "V16")
    made["content"] = np.frombuffer(news._hash(str(content)) * len(numbers), "V16")
    return made


@settings(max_examples=20)
@given(
    st.lists(st.lists(st.integers(0, 60)), max_size=6),
    st.sampled_from([1, 5, 64, 1000]),
    st.sampled_from([1, 7, 1000]),
)
def test_of_each_id_what_was_said_last_is_known(tmp_path_factory, slots, part_rows, rows):
    folder = tmp_path_factory.mktemp("known")
    ledger, expected = open_bucket(str(folder / "ledger")), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hashes, "PART_ROWS", part_rows)
        for slot, numbers in enumerate(slots):
            made = records(numbers, content=slot)
            Known(ledger).add(f"slot-{slot}", [made[:3], made[3:]], lambda: None)
            expected |= dict(zip(made["id"].tolist(), made["content"].tolist(), strict=True))

        def everything(name):
            parts = Parts(folder / name, rows)
            parts.spread(Known(ledger).read())
            found = [record for part in range(parts.count) for record in parts.latest(part).tolist()]
            assert len({record[1] for record in found}) == len(found)
            return {record[1]: record[2] for record in found}

        assert everything("before") == expected
        patch.setattr(known_module, "MOST_SLOTS", 1)
        Known(ledger).compact(lambda: None)
        assert everything("after") == expected
    assert len({entry.slot for entry in hashes.list_entries(ledger, "known/")}) <= 1


def test_a_disk_that_is_full_is_named(tmp_path):
    parts = Parts(tmp_path / "parts", rows=1)
    (tmp_path / "parts" / "0000").symlink_to("/dev/full")
    with pytest.raises(StorageError, match="LM1401.*parts/0000"):
        parts.spread([records([1, 2], content=0)])


CONTENTS = st.dictionaries(st.integers(0, 20), st.integers(0, 2), min_size=1, max_size=12)


@settings(max_examples=20)
@given(st.lists(CONTENTS, min_size=1, max_size=3), st.sampled_from([1, 4, 64]), st.booleans())
def test_what_is_picked_is_what_differs_from_all_before(tmp_path_factory, tables, part_rows, compacted):
    folder = tmp_path_factory.mktemp("ledger")
    ledger, known = open_bucket(str(folder / "ledger")), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hashes, "PART_ROWS", part_rows)
        patch.setattr(known_module, "MOST_SLOTS", 1 if compacted else 64)
        for night, table in enumerate(tables):
            spec = spec_of(folder, night, [(str(name), f"colour {content}") for name, content in table.items()])
            found = news.pick(spec, ledger, f"slot-{night}", lambda: None)
            wanted = {name: content for name, content in table.items() if known.get(name) != content}
            assert found.new == len(wanted.keys() - known.keys())
            assert (found.changed, found.known) == (len(wanted) - found.new, len(table) - len(wanted))
            if wanted:
                made = read_prompts(found)
                assert made == [(str(name), f"colour {content}") for name, content in wanted.items()]
                failed = fail(spec, [row for row, (name, _) in enumerate(made) if int(name) % 7 == 3])
                assert news.settle(spec, ledger, f"slot-{night}", lambda: None) == len(failed)
                known |= {name: content for row, (name, content) in enumerate(wanted.items()) if row not in failed}


def spec_of(folder, night, rows):
    table = folder / f"{night}.parquet"
    pq.write_table(pa.table({"id": [row[0] for row in rows], "prompt": [row[1] for row in rows]}), table)
    return JobSpec.model_validate({"prompts": str(table), "output": str(folder / f"out-{night}"), "models": [MODEL]})


def read_prompts(found):
    folder, _, pattern = found.prompts.rpartition("/")
    tables = [pq.read_table(path) for path in sorted(Path(folder).glob(pattern))]
    return [(row["id"], row["prompt"]) for row in pa.concat_tables(tables).to_pylist()]


def fail(spec, rows):
    """As a run leaves it in which an image of each of these rows failed, and another one did not."""
    shard = Shard(lane=0, index=0, start=0, stop=2 * len(rows))
    images = [{"source_row": row, "status": status} for row in rows for status in ("failed", "ok")]
    body = metadata.metadata_file(images, pa.schema([]), shard=shard, attempt="a", files=[])
    open_bucket(spec.output).put(metadata.key(shard), body)
    return rows


def test_memory_does_not_grow_with_the_table(tmp_path, monkeypatch):
    monkeypatch.setattr(hashes, "PART_ROWS", 1 << 12)
    monkeypatch.setattr(rewrite, "PART_GROUPS", 1)
    monkeypatch.setattr(rewrite, "MAX_GROUP_ROWS", 1 << 12)

    def peak(rows):
        spec = spec_of(tmp_path, rows, [(str(number), f"a cat, {number}") for number in range(rows)])
        ledger = open_bucket(str(tmp_path / f"ledger-{rows}"))
        tracemalloc.start()
        try:
            for slot in ("first", "second"):
                news.pick(spec, ledger, slot, lambda: None)
                news.settle(spec, ledger, slot, lambda: None)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(60_000) < 1.25 * peak(20_000)
