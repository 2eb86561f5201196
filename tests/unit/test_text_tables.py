"""CSV, TSV and JSONL: what is in the file is what is read, and what is wrong with it is said with its line."""

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.errors import InputError
from actors.storage.opening import open_bucket
from actors.tables.rewrite import rewrite
from actors.tables.source import open_source
from prompt_tables import HERE, compressed, jsonl, problems_of, reader, rows_of

PARTI = Path(__file__).parents[3] / "shared" / "data" / "PartiPrompts.tsv"


def refused(uri):
    with pytest.raises(InputError) as error:
        open_source(uri, HERE)
    return error


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.csv.zst", "T.CSV"])
def test_csv_has_quotes_and_everything_stays_text(tmp_path, name):
    uri = compressed(tmp_path / name, '\ufeffid,prompt\r\n007,"a ""red"" cat,\nsitting"\r\n1e5,5" disk\r\n\r\n')
    assert rows_of(uri) == [{"id": "007", "prompt": 'a "red" cat,\nsitting'}, {"id": "1e5", "prompt": '5" disk'}]


@pytest.mark.parametrize("name", ["t.tsv", "t.tsv.gz", "t.tsv.zst"])
def test_tsv_has_no_quoting(tmp_path, name):
    uri = compressed(tmp_path / name, 'prompt\tn\n"G I G G L E" painted\t"1\n"a\t""\n')
    assert rows_of(uri) == [{"prompt": '"G I G G L E" painted', "n": '"1'}, {"prompt": '"a', "n": '""'}]


@pytest.mark.parametrize("name", ["t.jsonl", "t.jsonl.gz", "t.jsonl.zst", "t.ndjson"])
def test_jsonl_keeps_kinds_and_late_keys(tmp_path, name):
    uri = jsonl(tmp_path / name, {"prompt": "a", "n": 1, "x": 1, "ok": True}, {"prompt": "b", "x": 2.5, "late": "é"})
    assert rows_of(uri) == [
        {"prompt": "a", "n": 1, "x": 1.0, "ok": True, "late": None},
        {"prompt": "b", "n": None, "x": 2.5, "ok": None, "late": "é"},
    ]
    assert [str(kind) for kind in open_source(uri, HERE).schema.types] == [
        "string",
        "int64",
        "double",
        "bool",
        "string",
    ]


def test_mixed_and_nested_values_of_jsonl_become_json(tmp_path):
    uri = jsonl(tmp_path / "t.jsonl", {"m": "text"}, {"m": 7}, {"m": [1, {"a": None}]}, {"m": 2**70}, {"m": False})
    assert [row["m"] for row in rows_of(uri)] == ["text", "7", '[1, {"a": null}]', str(2**70), "false"]


def test_half_a_surrogate_pair_is_no_crash(tmp_path):
    assert rows_of(jsonl(tmp_path / "t.jsonl", {"prompt": "a\ud800b"})) == [{"prompt": "a?b"}]


def test_invalid_utf8_is_named_by_line_and_byte(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"prompt\na cat\na caf\xe9 au lait\n")
    error = refused(str(tmp_path / "t.csv"))
    assert problems_of(error) == ["LM1014"]
    assert "byte 0xE9 at line 3, byte 6" in str(error.value)
    assert "latin-1" in str(error.value)
    assert "iconv -f latin-1 -t utf-8 t.csv" in str(error.value)


def test_utf16_is_recognised(tmp_path):
    (tmp_path / "t.csv").write_bytes("prompt\na cat\n".encode("utf-16"))
    assert "iconv -f utf-16" in str(refused(str(tmp_path / "t.csv")).value)


@pytest.mark.parametrize(("name", "separator"), [("t.csv", ","), ("t.tsv", "\t")])
def test_every_ragged_line_is_named(tmp_path, name, separator):
    lines = ["prompt,id", "a,1", "b,2,3", "c,4", "d"]
    error = refused(compressed(tmp_path / name, "\n".join(lines).replace(",", separator)))
    assert problems_of(error) == ["LM1017", "LM1017"]
    assert "line 3 has 3 fields, the header has 2" in str(error.value)
    assert "line 5 has 1 fields, the header has 2" in str(error.value)


def test_a_file_of_ragged_lines_is_told_in_brief(tmp_path):
    error = refused(compressed(tmp_path / "t.csv", "a;b,c\n" + "1;2\n" * 1000))
    assert len(error.value.problems) == 20
    assert "981 more lines" in error.value.problems[-1].message


def test_a_quote_that_is_never_closed_is_named_by_where_it_began(tmp_path):
    error = refused(compressed(tmp_path / "t.csv", 'prompt\na\n"b\n' + "c\n" * 1000))
    assert problems_of(error) == ["LM1017"]
    assert "a quote on line 3 is never closed" in str(error.value)


@pytest.mark.parametrize(
    "line", ["{", "[1]", '{"a": 1, "a": 2}', "[" * 100_000, '{"a": ' + "9" * 5000 + "}", r'{"\ud800": 1}']
)
def test_a_line_that_is_no_json_object_is_named(tmp_path, line):
    error = refused(compressed(tmp_path / "t.jsonl", '{"prompt": "a"}\n' + line + "\n"))
    assert problems_of(error) == ["LM1017"]
    assert "line 2 is not" in str(error.value)


@pytest.mark.parametrize("text", ['prompt\n"' + "a\n" * (9 << 20), "prompt\n" + "a" * (17 << 20)])
def test_a_huge_row_is_refused(tmp_path, text):
    error = refused(compressed(tmp_path / "t.csv", text))
    assert problems_of(error) == ["LM1016"]
    assert "line 2" in str(error.value)


@pytest.mark.parametrize(("name", "text"), [("t.csv", ""), ("t.csv", "prompt\n"), ("t.jsonl", "\n"), ("t.tsv.gz", "")])
def test_a_table_without_rows_is_refused(tmp_path, name, text):
    assert problems_of(refused(compressed(tmp_path / name, text))) == ["LM1002"]


@pytest.mark.parametrize("name", ["t.csv.gz", "t.csv.zst"])
def test_a_truncated_archive_is_refused(tmp_path, name):
    path = Path(compressed(tmp_path / name, "prompt\n" + "".join(f"{n * 7919 % 10007}\n" for n in range(5000))))
    path.write_bytes(path.read_bytes()[:-4000])
    assert problems_of(refused(str(path))) == ["LM1018"]


def test_a_column_name_twice_is_refused(tmp_path):
    error = refused(compressed(tmp_path / "t.csv", "prompt,a,a\nx,1,2\n"))
    assert problems_of(error) == ["LM1021"]


def test_the_index_that_pandas_writes_gets_a_name(tmp_path):
    assert rows_of(compressed(tmp_path / "t.csv", ",prompt\n0,a cat\n")) == [{"column_1": "0", "prompt": "a cat"}]


def test_files_of_one_table_have_the_same_columns(tmp_path):
    compressed(tmp_path / "a.csv", "prompt,id\na,1\n")
    compressed(tmp_path / "b.csv", "id,prompt\n2,b\n")
    assert rows_of(str(tmp_path)) == [{"prompt": "a", "id": "1"}, {"prompt": "b", "id": "2"}]
    compressed(tmp_path / "c.csv", "prompt,name\na,1\n")
    error = refused(str(tmp_path))
    assert problems_of(error) == ["LM1019"]
    assert 'has no "id"; has "name" besides' in str(error.value)


def test_faults_of_all_files_are_told_at_once(tmp_path):
    compressed(tmp_path / "a.csv", "prompt\na,1\n")
    compressed(tmp_path / "b.csv", "prompt\nb,1\n")
    assert problems_of(refused(str(tmp_path))) == ["LM1017", "LM1017"]


fields = st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=2, max_size=2)


@given(st.lists(fields, min_size=1))
def test_whatever_csv_can_say_is_read_as_it_was_written(tmp_path_factory, records):
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    text = io.StringIO()
    csv.writer(text).writerows([["prompt", "b"], *records])
    path.write_bytes(text.getvalue().encode())
    assert [list(row.values()) for row in rows_of(str(path))] == records


json_values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()


@given(st.lists(st.dictionaries(st.sampled_from("abc"), json_values), min_size=1))
def test_the_check_and_the_worker_read_the_same_prompts_of_jsonl(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("jsonl")
    path = folder / "t.jsonl"
    path.write_text("".join(json.dumps({"prompt": "p", **row}) + "\n" for row in rows))
    source = open_source(str(path), HERE)
    table = rewrite(source, open_bucket(str(folder / "out")), HERE).located(str(folder / "out"))
    columns = [prompt.columns for prompt in reader(table).read(0, 0, len(rows))]
    assert columns == [{name: value for name, value in row.items() if name != "prompt"} for row in rows_of(str(path))]


@pytest.mark.skipif(
    not PARTI.exists(), reason="the table PartiPrompts.tsv is not at ../shared/data beside this repository"
)
def test_a_real_table_is_read_as_it_stands(tmp_path):
    source = open_source(str(PARTI), HERE)
    table = rewrite(source, open_bucket(str(tmp_path)), HERE).located(str(tmp_path))
    prompts = reader(table, {"prompt": "Prompt"}).read(0, 0, table.rows)
    assert len(prompts) == 1632
    assert not [prompt for prompt in prompts if prompt.problem]
    assert prompts[0].text == "bond"
    assert list(prompts[0].columns) == ["Category", "Challenge", "Note"]
    assert any(prompt.text.startswith('"G I G G L E" painted') for prompt in prompts)
