"""A prompt filter catches what it says, in any script, quickly, and the reason stands in the row."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.errors import InputError, NotFound, Problem, StorageError
from actors.metadata import read_metadata
from actors.settings import FilterSettings, StorageSettings
from actors.storage.opening import open_bucket
from actors.tables import prompt_filter as filter_module
from actors.tables.prompt_filter import MOST_BYTES, PromptFilter, read_block_list
from actors.tables.source import open_source
from actors.worker import Worker
from builders import make_manifest, make_spec, make_table
from jobs.checks import check_rows, refuse_bad
from jobs.lanes import lane_recipes
from jobs.order import RunOrder
from jobs.promise import make_promise
from jobs.retry import is_lasting
from lanes import make_order


def reason(prompt, *blocked, **settings):
    problem = PromptFilter(FilterSettings(**settings), blocked).problem(prompt, "prompt")
    return problem and problem.message


@pytest.mark.parametrize(
    ("entry", "prompt"),
    [
        ("gore", "a scene of Gore, 4k"),
        ("GORE", "gore"),
        ("new york", "old New-York by night"),
        ("new york", "new\n york"),
        ("nude", "1girl, nude_female"),
        ("nude", "\uff4e\uff55\uff44\uff45"),
        ("straße", "eine STRASSE"),
        ("裸体", "美しい裸体画"),
        ("обнажённая", "картина: Обнажённая маха"),
        ("rock'n'roll", "a ROCK'N'ROLL band"),
    ],
)
def test_an_entry_is_found_as_whole_words(entry, prompt):
    assert reason(prompt, "another entry", entry) == f'the prompt has "{entry}", which is on the block list'


@pytest.mark.parametrize(
    ("entry", "prompt"),
    [
        ("gore", "Al Gorefield"),
        ("new york", "new yorker"),
        ("new york", "new old york"),
        ("art", "a cartoon"),
        ("裸体", "裸の体"),
    ],
)
def test_parts_of_words_are_not(entry, prompt):
    assert reason(prompt, entry) is None


@given(
    entries=st.lists(st.text("abC é裸", min_size=1, max_size=5).filter(str.strip), max_size=5),
    prompt=st.text("abC é裸_,", max_size=30),
)
def test_it_finds_what_a_plain_search_finds(entries, prompt):
    def spaced(text):
        letters = "".join(f" {letter} " if letter == "裸" else letter for letter in unicodedata.normalize("NFKC", text))
        return f" {' '.join(letters.casefold().replace('_', ' ').replace(',', ' ').split())} "

    found = reason(prompt, *entries)
    assert (found is not None) == any(spaced(entry) in spaced(prompt) for entry in entries)


def test_ten_thousand_entries_take_no_more_looks_than_ten():
    class Counted(dict):
        looks = 0

        def get(self, *words):
            self.looks += 1
            return super().get(*words)

    def looks(size):
        chosen = PromptFilter(FilterSettings(), [f"word{number} of{number}" for number in range(size)])
        chosen._blocked = Counted(chosen._blocked)
        assert chosen.problem("a red fox, word7 in the snow, " * 100, "prompt") is None
        return chosen._blocked.looks

    assert looks(20_000) == looks(10) == 100


def test_patterns_are_looked_for_anywhere():
    patterns = (r"(?i)\bin the style of\b", r"\d{6,}")
    assert (
        reason("A cat In The Style Of somebody", patterns=patterns) == rf"the prompt matches the pattern {patterns[0]}"
    )
    assert reason("number 1234567", patterns=patterns).endswith(patterns[1])
    assert reason("a stylish cat 12345", patterns=patterns) is None


def test_a_pattern_that_never_ends_fails_the_row_and_decides_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(filter_module, "PATIENCE_SECONDS", 0.05)
    pattern, prompt = r"(a|aa)+$", "a" * 60 + "b"
    assert reason(prompt, patterns=(pattern, "b$")) == "the prompt matches the pattern b$"
    asked = {"patterns": [pattern]}
    manifest = make_manifest(make_spec(tmp_path, table=make_table(tmp_path, ["fox", prompt]), prompt_filter=asked))
    (recipe,) = lane_recipes(manifest, manifest.spec, gpus=0)
    *_, report = Worker(recipe, "w0").run(make_order(2))
    _, row = read_metadata(report.metadata).table.sort_by("source_row").to_pylist()
    assert (row["status"], row["error_code"]) == ("failed", "LM1616")
    assert row["error"] == f"the pattern {pattern} takes more than 0.05 s for the prompt"
    assert not is_lasting(row["error_code"])


def test_the_longest_prompt_is_counted_in_characters():
    assert reason("🦊" * 10, max_length=10) is None
    assert reason("🦊" * 11, max_length=10) == "the prompt has 11 characters, more than 10"


def test_a_pattern_that_is_none_is_refused_with_the_job():
    with pytest.raises(ValueError, match="missing \\)"):
        FilterSettings(patterns=("(a",))


def listed(folder, text):
    path = folder / "blocked.txt"
    path.write_text(text, encoding="utf-8")
    return read_block_list(FilterSettings(block_list=str(path)), StorageSettings())


def test_a_list_is_its_entries(tmp_path):
    text = "\ufeff# ours\nNew York  # the city\n\n  gore\n# ---\ngore\n"
    assert listed(tmp_path, text) == ("New York", "gore") == listed(tmp_path, "gore\nNew York")


def test_entries_that_would_catch_nothing_are_refused_with_their_lines(tmp_path):
    with pytest.raises(InputError) as caught:
        listed(tmp_path, "gore\n\U0001f51e\nfox \U0001f98a\n---\n")
    path = tmp_path / "blocked.txt"
    assert [(problem.code, problem.where) for problem in caught.value.problems] == [
        ("LM1107", f"{path}:2"),
        ("LM1107", f"{path}:4"),
    ]


def test_a_list_whose_store_is_away_is_no_fault_of_the_list(monkeypatch):
    def away(url, storage):
        raise StorageError(Problem("LM1308", "the store is away"))

    monkeypatch.setattr(filter_module, "open_file", away)
    with pytest.raises(StorageError):
        read_block_list(FilterSettings(block_list="s3://lists/blocked.txt"), StorageSettings())

    def gone(url, storage):
        raise NotFound(Problem("LM1309", "there is no such object"))

    monkeypatch.setattr(filter_module, "open_file", gone)
    with pytest.raises(InputError, match="LM1107"):
        read_block_list(FilterSettings(block_list="s3://lists/blocked.txt"), StorageSettings())


def test_a_list_from_a_store(moto_store):
    open_bucket(moto_store.url).put("lists/blocked.txt", b"gore\n")
    settings = FilterSettings(block_list=f"{moto_store.url}/lists/blocked.txt")
    assert read_block_list(settings, StorageSettings()) == ("gore",)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\xfa", b"x" * (MOST_BYTES + 1)])
def test_a_list_that_cannot_be_read_is_an_error(tmp_path, content):
    path = tmp_path / "blocked.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_block_list(FilterSettings(block_list=str(path)), StorageSettings())
    assert (caught.value.code, caught.value.problems[0].where) == ("LM1107", str(path))


PROMPTS = ["a red fox", "a scene of gore", "a blue whale", "x" * 41, ""]


def a_filtering_job(folder):
    (folder / "blocked.txt").write_text("gore\n")
    asked = {"block_list": str(folder / "blocked.txt"), "max_length": 40}
    return make_spec(folder, table=make_table(folder, PROMPTS), prompt_filter=asked)


def test_what_is_caught_is_a_filtered_row_with_its_reason_and_no_failure(tmp_path):
    manifest = make_manifest(a_filtering_job(tmp_path))
    (recipe,) = lane_recipes(manifest, manifest.spec, gpus=0)

    *_, report = Worker(recipe, "w0").run(make_order(5))

    rows = read_metadata(report.metadata).table.sort_by("source_row").to_pylist()
    assert [row["status"] for row in rows] == ["ok", "filtered", "ok", "filtered", "failed"]
    assert [row["error_code"] for row in rows] == [None, "LM1030", None, "LM1030", "LM1003"]
    assert rows[1]["error"] == 'the prompt has "gore", which is on the block list'
    assert rows[3]["error"] == "the prompt has 41 characters, more than 40"
    assert (rows[1]["prompt"], rows[1]["file"], rows[1]["seed"]) == (PROMPTS[1], None, None)
    assert (report.failed, report.filtered) == (1, 2)


def test_the_plan_counts_them_apart_from_bad_rows(tmp_path):
    spec = a_filtering_job(tmp_path)
    report = check_rows(open_source(spec.prompts, spec.storage), spec, "all", ("gore",))
    assert (report.bad_rows, report.filtered_rows) == (1, 2)
    (noted,) = [problem for problem in report.problems if problem.code == "LM1030"]
    assert (noted.severity, noted.count, noted.where.endswith("prompts.parquet:1:prompt")) == ("note", 2, True)
    with pytest.raises(InputError) as caught:
        refuse_bad(report, spec.limits.model_copy(update={"max_failed_share": 0.0}))
    assert [problem.code for problem in caught.value.problems] == ["LM1023", "LM1003"]


def test_the_list_belongs_to_the_job_by_what_is_in_it(tmp_path):
    spec = a_filtering_job(tmp_path)
    manifest = make_manifest(spec)
    assert manifest.blocked == ("gore",)
    (tmp_path / "blocked.txt").write_text("# the same\ngore\ngore")
    assert make_manifest(spec) == manifest
    (tmp_path / "blocked.txt").write_text("gore\nblood")
    with pytest.raises(InputError) as caught:
        make_manifest(spec)
    assert (caught.value.code, caught.value.problems[0].where) == ("LM1307", "prompt_filter.block_list")


def test_a_retry_filters_as_promised_when_the_list_is_gone(tmp_path):
    manifest = make_manifest(a_filtering_job(tmp_path))
    (tmp_path / "blocked.txt").unlink()
    order = RunOrder(spec=manifest.spec, purpose="retry")
    kept = make_promise(open_bucket(manifest.spec.output), order, lambda text: None).manifest
    (recipe,) = lane_recipes(kept, kept.spec, gpus=0)
    assert recipe.blocked == ("gore",)
