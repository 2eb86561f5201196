"""A shard's metadata holds every row with its types, says what it is, and can be replaced row by row."""

import datetime
from decimal import Decimal

import duckdb
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import metadata
from actors.errors import RunError
from actors.records import SAMPLE_SCHEMA, SCHEMA_VERSION, DataFile, Shard, carried_name, sample_key

SHARD = Shard(42, 0, 0, 1000)
FILE = DataFile("images/000000042-a.tar", 3, 4096, "0" * 64)
NOTHING = pa.schema([])

ANY_TYPE = {
    "null": (pa.null(), None),
    "list": (pa.list_(pa.int64()), [1, 2]),
    "large_list": (pa.large_list(pa.string()), ["a", None]),
    "fixed_list": (pa.list_(pa.int32(), 2), [1, 2]),
    "struct": (pa.struct([("a", pa.int8()), ("b", pa.list_(pa.string()))]), {"a": 1, "b": ["x", None]}),
    "list of structs": (pa.list_(pa.struct([("a", pa.null())])), [{"a": None}]),
    "dictionary": (pa.dictionary(pa.int32(), pa.string()), "cat"),
    "map": (pa.map_(pa.string(), pa.int32()), [("a", 1)]),
    "string": (pa.string(), "❄ it's \x00"),
    "large_string": (pa.large_string(), "x" * 100_000),
    "string_view": (pa.string_view(), "x" * 100),
    "binary": (pa.binary(), b"\xff"),
    "fixed_binary": (pa.binary(3), b"abc"),
    "bool": (pa.bool_(), True),
    "uint64": (pa.uint64(), 2**64 - 1),
    "float16": (pa.float16(), 1.5),
    "decimal": (pa.decimal128(10, 2), Decimal("1.25")),
    "date": (pa.date32(), datetime.date(2026, 1, 2)),
    "time": (pa.time64("us"), datetime.time(1, 2, 3)),
    "timestamp": (pa.timestamp("ms", "UTC"), datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)),
    "duration": (pa.duration("us"), datetime.timedelta(1)),
}


def a_row(number, **columns):
    columns = {"key": sample_key(number, 0, 0), "status": "ok", "file": FILE.file, "seed": number, **columns}
    return {"schema_version": SCHEMA_VERSION, "prompt": f"cat {number}", "guidance_scale": 7.5, **columns}


def a_file(rows, carried=NOTHING, attempt="a", files=(FILE,)):
    return metadata.metadata_file(rows, carried, shard=SHARD, attempt=attempt, files=files)


def test_rows_and_header_read_back():
    data = a_file([a_row(0), a_row(1, status="failed", file=None)])
    read = metadata.read_metadata(data)
    assert read.header == metadata.read_header(data)
    assert read.header == metadata.ShardHeader(shard=SHARD, attempt="a", replaces=None, files=(FILE,))
    assert read.table.schema == SAMPLE_SCHEMA
    assert read.table.select(["status", "seed", "file", "error"]).to_pylist() == [
        {"status": "ok", "seed": 0, "file": FILE.file, "error": None},
        {"status": "failed", "seed": 1, "file": None, "error": None},
    ]


@pytest.mark.parametrize("name", ANY_TYPE)
def test_a_users_column_keeps_its_type_also_through_a_retry(name):
    kind, value = ANY_TYPE[name]
    carried = pa.schema([("theirs", kind)])
    old = a_file([a_row(0, theirs=value), a_row(1, theirs=value), a_row(2)], carried)
    new = a_file([a_row(1, theirs=value)], carried, attempt="b")
    for data in (old, metadata.merge(old, new)):
        table = metadata.read_metadata(data).table
        assert table.schema.field("theirs").type == kind
        assert table["theirs"].to_pylist() == [value, value, None]


def test_a_column_of_our_name_gets_another():
    carried = pa.schema([("seed", pa.string()), ("width", pa.float32()), ("caption", pa.string())])
    row = a_row(0, seed=1, input_seed="theirs", input_width=0.5, caption="c")
    table = metadata.read_metadata(a_file([row], carried)).table
    assert table.schema.names[-3:] == ["input_seed", "input_width", "caption"]
    assert table.select(["seed", "input_seed", "input_width"]).to_pylist() == [
        {"seed": 1, "input_seed": "theirs", "input_width": 0.5}
    ]


@given(names=st.sets(st.sampled_from(["seed", "input_seed", "input_input_seed", "x", "input_x", "input_"])))
def test_no_two_columns_get_one_name(names):
    found = [*SAMPLE_SCHEMA.names, *map(carried_name, names)]
    assert len(set(found)) == len(found)


@given(failed=st.sets(st.integers(0, 29)), again=st.sets(st.integers(0, 29)))
def test_a_retry_replaces_its_rows_and_no_others(failed, again):
    rows = [a_row(number, status="failed" if number in failed else "ok", attempt="a") for number in range(30)]
    other = DataFile("images/000000042-b.tar", len(again), 512, "1" * 64)
    redone = [a_row(number, attempt="b", file=other.file) for number in sorted(again, reverse=True)]
    merged = metadata.read_metadata(metadata.merge(a_file(rows), a_file(redone, attempt="b", files=(other,))))
    assert merged.header.attempt == "b"
    assert merged.header.replaces == "a"
    assert merged.header.files == ((FILE, other) if len(again) < 30 else (other,))
    assert merged.table["key"].to_pylist() == [row["key"] for row in rows]
    for number, row in enumerate(merged.table.to_pylist()):
        made_by = "b" if number in again else "a"
        still_failed = number in failed and number not in again
        assert (row["attempt"], row["status"]) == (made_by, "failed" if still_failed else "ok")


def test_a_row_that_was_not_promised_is_refused():
    with pytest.raises(AssertionError):
        metadata.merge(a_file([a_row(0)]), a_file([a_row(1)], attempt="b"))


def no_parquet():
    return b"PAR1 nonsense"


def no_header():
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"a": [1]}), sink)
    return bytes(sink.getvalue())


def from_the_future():
    sink = pa.BufferOutputStream()
    entry = f'{{"schema_version":{SCHEMA_VERSION + 1}}}'
    pq.write_table(pa.table({"a": [1]}).replace_schema_metadata({"lightmill": entry}), sink)
    return bytes(sink.getvalue())


@given(data=st.data())
def test_a_bit_that_flips_in_a_page_is_found_or_changes_no_row(data):
    carried = pa.schema([("theirs", pa.list_(pa.int64()))])
    sound = a_file([a_row(number, theirs=[number]) for number in range(20)], carried)
    footer = len(sound) - 8 - int.from_bytes(sound[-8:-4], "little")
    damaged = bytearray(sound)
    damaged[data.draw(st.integers(0, footer - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        rows = metadata.read_metadata(bytes(damaged)).table
    except RunError:
        return
    assert rows == metadata.read_metadata(sound).table


@pytest.mark.parametrize(
    ("make", "code"),
    [(bytes, "LM1317"), (no_parquet, "LM1317"), (no_header, "LM1317"), (from_the_future, "LM1313")],
)
def test_what_is_no_metadata_of_ours_is_an_error(make, code):
    for read in (metadata.read_header, metadata.read_metadata):
        with pytest.raises(RunError) as caught:
            read(make())
        assert caught.value.code == code


def test_the_metadata_of_a_job_is_one_table_for_anybody(tmp_path):
    carried = pa.schema([("category", pa.string()), ("note", pa.null())])
    for index in range(3):
        rows = [a_row(number, model="tiny", category="animal" if index else None) for number in range(10)]
        shard = Shard(index, 0, index * 10, index * 10 + 10)
        data = metadata.metadata_file(rows, carried, shard=shard, attempt="a", files=[])
        path = tmp_path / metadata.key(shard)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    count = f"select model, category, count(*) from '{tmp_path}/metadata/*.parquet' group by all order by all"
    assert duckdb.sql(count).fetchall() == [("tiny", "animal", 20), ("tiny", None, 10)]
    assert pyarrow.dataset.dataset(tmp_path / "metadata", format="parquet").to_table().num_rows == 30
