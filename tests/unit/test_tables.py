"""Parquet tables: found, surveyed by their footers, routed, rewritten, and read by shard."""

import datetime
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.crash import EXIT_STATUS
from actors.errors import InputError
from actors.storage.opening import open_bucket
from actors.tables import files
from actors.tables.columns import unused_parameters, use_columns
from actors.tables.reader import TableReader
from actors.tables.rewrite import rewrite
from actors.tables.routes import route
from actors.tables.source import open_source, source_version
from actors.tables.table import PromptTable
from prompt_tables import HERE, compressed, parquet, problems_of, reader, rows_of


def refused(uri):
    with pytest.raises(InputError) as error:
        open_source(uri, HERE)
    return error


def texts(prompts):
    return [prompt.text for prompt in prompts]


@pytest.mark.parametrize(
    "uri", ["", "/", "/*.parquet", "/**/*.parquet", "/[ab].parquet", "/[!c].parquet", "/**.parquet", "/**"]
)
def test_a_table_is_a_file_a_folder_or_a_glob(tmp_path, uri):
    parquet(tmp_path / "b.parquet", {"prompt": ["b"]})
    parquet(tmp_path / "a.parquet", {"prompt": ["a"]})
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / ".hidden.parquet").touch()
    source = open_source(f"{tmp_path}{uri}", HERE)
    assert texts(reader(source.table()).read(0, 0, 2)) == ["a", "b"]


@pytest.mark.parametrize("uri", ["t.parquet", "folder", "*.csv", "folder/"])
def test_a_table_that_is_not_there_is_named(tmp_path, uri):
    error = refused(str(tmp_path / uri))
    assert problems_of(error) == ["LM1000"]
    assert str(tmp_path / uri) in str(error.value)


def test_a_table_that_cannot_be_reached_is_named(tmp_path):
    uri = str(tmp_path / ("x" * 300))
    error = refused(uri)
    assert problems_of(error) == ["LM1000"]
    assert "File name too long" in str(error.value)


def test_a_folder_of_two_formats_is_refused(tmp_path):
    parquet(tmp_path / "a.parquet", {"prompt": ["a"]})
    compressed(tmp_path / "b.csv", "prompt\nb\n")
    assert problems_of(refused(str(tmp_path))) == ["LM1019"]


def test_a_name_that_says_no_format_is_refused(tmp_path):
    assert problems_of(refused(compressed(tmp_path / "prompts.txt", "a"))) == ["LM1018"]


@pytest.mark.parametrize("keep", [0, 100, -1])
def test_what_is_not_a_whole_parquet_file_is_refused(tmp_path, keep):
    path = tmp_path / "t.parquet"
    parquet(path, {"prompt": ["a"] * 1000})
    path.write_bytes(path.read_bytes()[:keep])
    assert problems_of(refused(str(path))) == ["LM1018" if keep else "LM1002"]


def test_a_table_without_rows_is_refused(tmp_path):
    assert problems_of(refused(parquet(tmp_path / "t.parquet", {"prompt": pa.array([], pa.string())}))) == ["LM1002"]


def test_files_that_differ_are_refused_with_the_difference(tmp_path):
    parquet(tmp_path / "a.parquet", {"prompt": ["a"], "n": [1]})
    parquet(tmp_path / "b.parquet", {"prompt": ["a"], "n": ["1"], "extra": [1]})
    error = refused(str(tmp_path))
    assert problems_of(error) == ["LM1019"]
    assert 'has "extra" besides; "n" is string, not int64' in str(error.value)


def test_a_dictionary_of_text_is_text(tmp_path):
    parquet(tmp_path / "a.parquet", {"prompt": pa.array(["a"]).dictionary_encode()})
    parquet(tmp_path / "b.parquet", {"prompt": pa.array(["b"], pa.large_string())})
    assert rows_of(str(tmp_path)) == [{"prompt": "a"}, {"prompt": "b"}]


def test_a_missing_column_is_named_with_those_found():
    with pytest.raises(InputError) as error:
        use_columns(["Prompt", "uid", "W"], {"id": "iud"}, ["width"])
    assert problems_of(error) == ["LM1001"] * 3
    assert 'column "prompt" not found; found "Prompt", "uid", "W"' in str(error.value)
    assert "--column prompt=Prompt" in str(error.value)
    assert "--column id=uid" in str(error.value)


def test_columns_that_look_like_parameters_are_told():
    use = use_columns(["prompt", "width", "height", "CFG Scale", "name"], {}, ["height"])
    assert unused_parameters(use) == {"width": "width", "CFG Scale": "guidance_scale"}


def test_times_and_odd_types_survive(tmp_path):
    columns = {
        "prompt": ["a"],
        "far": pa.array([2**50], pa.timestamp("ms")),
        "nano": pa.array([1], pa.timestamp("ns")),
        "day": [datetime.date(2026, 1, 2)],
        "nothing": pa.nulls(1),
        "tags": [["x", "y"]],
        "deep": pa.array([{"t": datetime.datetime(2026, 1, 2), "l": [1.5]}]),
        "half": pa.array([0.5], pa.float16()),
    }
    (prompt,) = reader(open_source(parquet(tmp_path / "t.parquet", columns), HERE).table()).read(0, 0, 1)
    assert prompt.columns["day"] == "2026-01-02"
    assert prompt.columns["nano"] == "1970-01-01 00:00:00.000000001"
    assert prompt.columns["tags"] == ["x", "y"]
    assert prompt.columns["deep"] == {"t": "2026-01-02 00:00:00.000000", "l": [1.5]}
    assert (prompt.columns["nothing"], prompt.columns["half"]) == (None, 0.5)
    assert prompt.columns["far"]


def test_text_that_is_not_utf8_is_no_crash(tmp_path):
    broken = pa.array([b"caf\xe9", b"cat"]).view(pa.string())
    columns = {"prompt": broken, "l": pa.ListArray.from_arrays([0, 1, 2], broken), "b": [b"\xe9", None]}
    prompts = reader(open_source(parquet(tmp_path / "t.parquet", columns), HERE).table()).read(0, 0, 2)
    assert texts(prompts) == ["caf\ufffd", "cat"]
    assert prompts[0].columns == {"l": ["caf\ufffd"], "b": b"\xe9"}


def test_a_model_that_is_not_utf8_is_a_bad_row(tmp_path):
    models = pa.array([b"\xff", b"tiny"]).view(pa.string())
    source = open_source(parquet(tmp_path / "t.parquet", {"prompt": ["a", "b"], "model": models}), HERE)
    table = route(source.table(), "model", ["fake", "tiny"], HERE)
    [bad], [good] = (reader(table, overrides=("model",)).read(lane, 0, 1) for lane in (0, 1))
    assert (bad.text, bad.problem.code) == ("a", "LM1013")
    assert (good.text, good.problem) == ("b", None)


def bomb(path, rows, size, **options):
    value = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["z" * size]))
    return parquet(path, {"prompt": value}, store_schema=False, dictionary_pagesize_limit=1 << 30, **options)


def test_a_table_that_expands_to_gigabytes_is_refused(tmp_path):
    uri = bomb(tmp_path / "t.parquet", 2000, 1 << 20, compression="zstd")
    assert (tmp_path / "t.parquet").stat().st_size < 600
    source = open_source(uri, HERE)
    for read in (lambda: rows_of(uri), lambda: reader(source.table()).read(0, 0, 1)):
        with pytest.raises(InputError) as error:
            read()
        assert problems_of(error) == ["LM1020"]


def test_a_page_that_expands_to_gigabytes_is_refused_by_its_footer(tmp_path):
    uri = parquet(
        tmp_path / "t.parquet",
        {"prompt": ["z" * (1 << 20)] * 260},
        compression="zstd",
        use_dictionary=False,
        data_page_size=1 << 30,
    )
    assert problems_of(refused(uri)) == ["LM1020"]


def test_a_constant_column_over_a_million_rows_passes(tmp_path):
    constant = pa.DictionaryArray.from_arrays(pa.array([0] * 1_000_000, pa.int32()), pa.array(["z" * 500]))
    uri = parquet(tmp_path / "t.parquet", {"prompt": constant}, row_group_size=1_000_000)
    table = rewrite(open_source(uri, HERE), open_bucket(str(tmp_path / "out")), HERE).located(str(tmp_path / "out"))
    assert table.rows == 1_000_000
    assert reader(table).read(0, 999_999, 1_000_000)[0].text == "z" * 500


def test_a_value_larger_than_a_row_may_be_is_refused(tmp_path):
    uri = parquet(tmp_path / "t.parquet", {"prompt": ["a", "z" * (17 << 20)]}, compression="none")
    with pytest.raises(InputError) as error:
        rows_of(uri)
    assert problems_of(error) == ["LM1016"]


def test_large_row_groups_are_rewritten_into_small_ones(tmp_path):
    uri = parquet(tmp_path / "t.parquet", {"prompt": [f"cat {n}" for n in range(150_000)]}, row_group_size=150_000)
    source = open_source(uri, HERE)
    assert source.needs_rewrite
    told = []
    table = rewrite(source, open_bucket(str(tmp_path / "out")), HERE, progress=told.append)
    table = table.located(str(tmp_path / "out"))
    assert [file.row_groups for file in table.files] == [(65_536, 65_536, 18_928)]
    assert told == [150_000]
    assert table.identity == source.identity
    assert texts(reader(table).read(0, 65_535, 65_537)) == ["cat 65535", "cat 65536"]


def test_a_table_that_changes_is_noticed_without_being_read(tmp_path):
    uri = parquet(tmp_path / "t.parquet", {"prompt": ["a"]})
    source = open_source(uri, HERE)
    assert source_version(uri, HERE) == source.identity.version
    prompts = reader(source.table())
    parquet(tmp_path / "t.parquet", {"prompt": ["b", "c"]})
    assert source_version(uri, HERE) != source.identity.version
    for read in (lambda: prompts.read(0, 0, 1), lambda: rewrite(source, open_bucket(str(tmp_path / "out")), HERE)):
        with pytest.raises(InputError) as error:
            read()
        assert problems_of(error) == ["LM1022"]


def test_the_manifest_gives_the_table_back(tmp_path):
    uri = parquet(tmp_path / "t.parquet", {"prompt": ["a", "b"], "model": ["x", "y"], "l": [[1], None]})
    table = route(open_source(uri, HERE).table(), "model", ["x", "y"], HERE)
    assert PromptTable.from_dict(json.loads(json.dumps(table.to_dict()))) == table


@given(
    st.lists(
        st.lists(st.sampled_from(["x", "y", " y ", "", "z", None]), min_size=1, max_size=9), min_size=1, max_size=4
    ),
    st.integers(1, 5),
)
def test_every_row_belongs_to_exactly_one_lane(tmp_path_factory, files, group_rows):
    folder = tmp_path_factory.mktemp("routes")
    for number, models in enumerate(files):
        columns = {"prompt": [f"{number}/{row}" for row in range(len(models))], "model": pa.array(models, pa.string())}
        parquet(folder / f"{number}.parquet", columns, row_group_size=group_rows)
    table = route(open_source(str(folder), HERE).table(), "model", ["x", "y"], HERE)
    prompts = reader(table, overrides=["model"])
    models = [model for file in files for model in file]
    for lane, mine in enumerate([lambda m: m not in ("y", " y "), lambda m: m in ("y", " y ")]):
        ordinals = [number for number, model in enumerate(models) if mine(model)]
        assert table.lane_rows(lane) == len(ordinals)
        for step in (2, 100):
            found = [p for start in range(0, len(ordinals), step) for p in prompts.read(lane, start, start + step)]
            assert [prompt.source_row for prompt in found] == ordinals
            assert [bool(prompt.problem) for prompt in found] == [models[number] == "z" for number in ordinals]


@given(st.lists(st.integers(1, 30), min_size=1, max_size=4), st.integers(1, 7), st.data())
def test_any_slice_is_the_rows_it_names(tmp_path_factory, sizes, group_rows, data):
    folder = tmp_path_factory.mktemp("slices")
    rows = 0
    for number, size in enumerate(sizes):
        parquet(
            folder / f"{number}.parquet", {"prompt": [f"p{rows + n}" for n in range(size)]}, row_group_size=group_rows
        )
        rows += size
    start = data.draw(st.integers(0, rows))
    stop = data.draw(st.integers(start, rows))
    found = reader(open_source(str(folder), HERE).table()).read(3, start, stop)
    assert texts(found) == [f"p{n}" for n in range(start, stop)]
    assert [prompt.source_row for prompt in found] == list(range(start, stop))


def test_neighbouring_shards_decode_a_row_group_once(tmp_path):
    uri = parquet(tmp_path / "t.parquet", {"prompt": [f"cat {n}" for n in range(30_000)]}, row_group_size=10_000)
    prompts = reader(open_source(uri, HERE).table())
    for start in range(0, 30_000, 100):
        prompts.read(0, start, start + 100)
    assert prompts.groups.decoded == 3


def test_a_table_in_a_store_is_read_as_one_here(moto_store):
    bucket = open_bucket(f"{moto_store.url}/in", HERE)
    for name in ("a", "b"):
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table({"prompt": [f"{name} {n}" for n in range(5)]}), sink)
        bucket.put(f"deep/{name}.parquet", sink.getvalue().to_pybytes())
    bucket.put("text/t.csv", b"prompt\na cat\n")
    settings = HERE
    for uri, rows in (
        ("deep", 10),
        ("deep/", 10),
        ("deep/*.parquet", 10),
        ("**/b.parquet", 5),
        ("deep/[!a].parquet", 5),
    ):
        source = open_source(f"{moto_store.url}/in/{uri}", settings)
        prompts = TableReader(source.table(), {}, (), settings).read(0, 0, rows + 1)
        assert len(prompts) == source.rows == rows
        assert source_version(f"{moto_store.url}/in/{uri}", settings) == source.identity.version
    table = rewrite(open_source(f"{moto_store.url}/in/text/t.csv", settings), bucket, settings).located(bucket.url)
    assert texts(TableReader(table, {}, (), settings).read(0, 0, 1)) == ["a cat"]
    with pytest.raises(InputError) as error:
        open_source(f"{moto_store.url}/in/none.csv", settings)
    assert problems_of(error) == ["LM1000"]


def test_threads_that_open_files_of_one_folder_share_one_bucket(monkeypatch):
    opened = []

    def slowly(url, storage):
        time.sleep(0.05)
        opened.append(url)
        return open_bucket(url, storage)

    monkeypatch.setattr(files, "open_bucket", slowly)
    with ThreadPoolExecutor(8) as threads:
        buckets = list(threads.map(lambda _: files.bucket_at("/nowhere/shared", HERE), range(8)))
    assert len(opened) == len(set(map(id, buckets))) == 1


MEASURED = """
import resource, sys
from actors.settings import StorageSettings
from actors.storage.opening import open_bucket
from actors.tables.source import open_source
from actors.tables.rewrite import rewrite
from actors.tables.reader import TableReader
here = StorageSettings()
table = rewrite(open_source(sys.argv[1], here), open_bucket(sys.argv[2]), here).located(sys.argv[2])
reader = TableReader(table, {}, (), here)
for start in range(0, table.rows, 50_000):
    assert len(reader.read(0, start, start + 1000)) == 1000
print(table.rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_a_rewrite_that_dies_leaves_only_orphans(tmp_path):
    uri = compressed(tmp_path / "t.csv", "prompt\n" + "a cat\n" * 1000)
    command = [sys.executable, "-c", MEASURED, uri, str(tmp_path / "out")]
    died = subprocess.run(command, env={**os.environ, "LIGHTMILL_CRASH": "rewrite.part"}, check=False)
    assert died.returncode == EXIT_STATUS
    table = rewrite(open_source(uri, HERE), open_bucket(str(tmp_path / "out")), HERE).located(str(tmp_path / "out"))
    assert table.rows == len(reader(table).read(0, 0, 2000)) == 1000
    assert len(list((tmp_path / "out" / "prompts").iterdir())) == 2


@pytest.mark.parametrize(("suffix", "rows"), [(".parquet", 250_000), (".csv", 60_000)])
def test_memory_is_flat_between_a_table_and_one_four_times_as_large(tmp_path, suffix, rows):
    """Rows of a kilobyte: Parquet of 0.25 and 1 GB in one row group each; CSV, which Python parses, of a quarter."""
    peaks = []
    for number in (rows, 4 * rows):
        uri = kilobyte_rows(tmp_path / f"{number}{suffix}", number)
        command = [sys.executable, "-c", MEASURED, uri, str(tmp_path / f"out{number}")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        counted, peak = map(int, done.stdout.split())
        assert counted == number
        peaks.append(peak)
    assert peaks[1] < peaks[0] * 1.25 + 20


def kilobyte_rows(path, rows):
    lines = [f"{number:06d} " + "cat " * 250 for number in range(10_000)]
    if path.suffix == ".csv":
        with path.open("w") as file:
            file.write("prompt\n")
            for _ in range(rows // len(lines)):
                file.write("\n".join(lines) + "\n")
        return str(path)
    block = pa.table({"prompt": lines})
    return parquet(
        path,
        pa.concat_tables([block] * (rows // len(lines))),
        compression="zstd",
        use_dictionary=False,
        row_group_size=rows,
    )
