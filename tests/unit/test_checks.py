"""What `plan` says of the rows, and which jobs are refused before anything is generated."""

import json

import pyarrow as pa
import pytest

from actors.errors import InputError
from actors.models.facts import ModelFacts, describe_model
from actors.models.folder import widest_tokenizer
from actors.models.settings import ModelSettings
from actors.tables.source import open_source
from jobs.check_report import SizeGroup
from jobs.checks import check_rows, refuse_bad
from jobs.limits import LimitSettings
from jobs.spec import JobSpec
from prompt_tables import HERE, compressed, parquet, problems_of


def check(uri, mode="auto", models=("fake",), facts=(), **options):
    spec = JobSpec(prompts=uri, output="out", models=[{"model": model} for model in models], **options)
    return check_rows(open_source(uri, HERE), spec, mode, facts=facts)


def check_tokens(uri, model):
    tokenizer, limit = widest_tokenizer(model)
    size = {"width": 64, "height": 64, "size_multiple": 8}
    facts = ModelFacts(model=str(model), **size, tokenizer=tokenizer, prompt_tokens=limit)
    return check(uri, models=(str(model),), facts=(facts,))


def test_a_good_table_has_nothing_said_of_it(tmp_path):
    report = check(parquet(tmp_path / "t.parquet", {"prompt": ["a", "b"]}))
    assert (report.mode, report.rows, report.checked_rows, report.bad_rows) == ("all", 2, 2, 0)
    assert report.problems == ()
    assert report.sizes == (SizeGroup(None, None, None, None, 2),)
    refuse_bad(report, LimitSettings(max_failed_share=0))


def test_problems_are_told_once_each_with_their_first_place(tmp_path):
    rows = ["prompt,width,height", "a,512,512", ",512,512", "b,513,512", "c,512,512", " ,1,1", '"d\ne",700,700']
    uri = compressed(tmp_path / "t.csv", "\n".join(rows))
    report = check(uri, overrides=("width", "height"))
    assert (report.bad_rows, report.checked_rows) == (4, 6)
    empty, size = report.problems
    assert (empty.code, empty.count, empty.where) == ("LM1003", 2, f"{uri}:3:prompt")
    assert (size.code, size.count, size.where) == ("LM1006", 2, f"{uri}:4:width")
    assert size.message == "2 rows; the first: 513x512: width must be a multiple of 8"
    assert report.sizes == (SizeGroup(512, 512, None, None, 2),)


def test_too_many_bad_rows_refuse_the_job_with_every_reason(tmp_path):
    uri = parquet(tmp_path / "t.parquet", {"prompt": ["a", "", None, "b"]})
    report = check(uri)
    assert report.bad_share == 0.5
    refuse_bad(report, LimitSettings(max_failed_share=0.5))
    with pytest.raises(InputError) as error:
        refuse_bad(report, LimitSettings(max_failed_share=0.49))
    assert problems_of(error) == ["LM1023", "LM1003", "LM1004"]
    assert "2 of 4 rows checked are bad (50.0%); the job allows 49.0%" in str(error.value)


def test_ids_that_occur_twice_refuse_the_job(tmp_path):
    uri = compressed(tmp_path / "t.csv", "uid,prompt\n" + "".join(f"{n % 90},a\n" for n in range(100)))
    report = check(uri, columns={"id": "uid"})
    (problem,) = report.problems
    assert (problem.code, problem.count) == ("LM1011", 10)
    assert f'"0" at {uri}:2 and {uri}:92' in problem.message
    assert report.bad_rows == 0
    with pytest.raises(InputError) as error:
        refuse_bad(report, LimitSettings(max_failed_share=1))
    assert problems_of(error) == ["LM1011"]


def test_rows_that_repeat_others_are_counted(tmp_path):
    uri = parquet(tmp_path / "t.parquet", {"prompt": ["a", "a", "a", "b"], "seed": [1, 1, 2, 1]})
    assert check(uri).repeated_rows == 2
    assert check(uri, overrides=("seed",)).repeated_rows == 1


def test_the_same_prompt_for_two_models_is_no_repetition(tmp_path):
    uri = parquet(tmp_path / "t.parquet", {"prompt": ["a", "a"], "model": ["tiny", "fake"]})
    assert check(uri, models=("tiny", "fake"), overrides=("model",)).repeated_rows == 0


def test_an_unknown_model_is_a_bad_row(tmp_path):
    uri = parquet(tmp_path / "t.parquet", {"prompt": ["a", "a"], "model": ["tiny", "sdxl"]})
    report = check(uri, models=("tiny", "fake"), overrides=("model",))
    assert [(problem.code, problem.where) for problem in report.problems] == [("LM1013", f"{uri}:1:model")]


def test_parameters_that_are_not_used_are_named(tmp_path):
    uri = parquet(tmp_path / "t.parquet", {"prompt": ["a"], "width": [513], "Steps": [1]})
    report = check(uri)
    assert report.bad_rows == 0
    assert report.unused_parameters == {"width": "width", "Steps": "num_inference_steps"}


def test_stripped_characters_are_a_warning(tmp_path):
    (problem,) = check(parquet(tmp_path / "t.parquet", {"prompt": ["a\u200b", "b", "\u202ec"]})).problems
    assert (problem.code, problem.count, problem.severity) == ("LM1015", 2, "warning")


def test_a_missing_column_is_told_whatever_the_mode(tmp_path):
    uri = parquet(tmp_path / "t.parquet", {"Prompt": ["a"]})
    with pytest.raises(InputError) as error:
        check(uri, "none")
    assert problems_of(error) == ["LM1001"]


def test_none_looks_at_no_row(tmp_path):
    report = check(parquet(tmp_path / "t.parquet", {"prompt": [""]}), "none")
    assert (report.mode, report.rows, report.checked_rows, report.bad_share) == ("none", 1, 0, 0.0)


def test_a_sample_is_spread_over_the_row_groups(tmp_path):
    uri = parquet(tmp_path / "t.parquet", {"prompt": ["a"] * 399 + [""]}, row_group_size=10)
    report = check(uri, "sample")
    assert (report.mode, report.rows, report.checked_rows, report.bad_rows) == ("sample", 400, 160, 1)
    assert report.problems[0].where == f"{uri}:399:prompt"


def test_a_sample_is_spread_over_the_files(tmp_path):
    for number in range(40):
        compressed(tmp_path / f"{number:02d}.csv", "prompt\n" + "a\n" * 9 + ('""\n' if number in (0, 39) else "a\n"))
    report = check(str(tmp_path), "sample")
    assert (report.rows, report.checked_rows, report.bad_rows) == (400, 160, 2)
    assert report.problems[0].where == f"{tmp_path}/00.csv:11:prompt"


def test_a_single_large_row_group_is_sampled_too(tmp_path):
    uri = parquet(tmp_path / "t.parquet", {"prompt": pa.array(["a"] * 1_100_000)}, row_group_size=1_100_000)
    assert check(uri).checked_rows == 65_536


def test_prompts_over_the_token_limit_are_a_warning(tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    folder = tmp_path / "model" / "tokenizer"
    letters = [chr(code) for code in range(33, 127)]
    vocabulary = {
        token: number for number, token in enumerate([*letters, *(c + "</w>" for c in letters), "<s>", "</s>"])
    }
    tokenizer = transformers.CLIPTokenizer(
        vocab=vocabulary, merges=[], bos_token="<s>", eos_token="</s>", unk_token="</s>", model_max_length=77
    )
    tokenizer.save_pretrained(folder)
    uri = parquet(tmp_path / "t.parquet", {"prompt": ["a cat", "x" * 75, "x" * 76, "x" * 212]})
    (problem,) = check_tokens(uri, tmp_path / "model").problems
    assert (problem.code, problem.count, problem.severity) == ("LM1005", 2, "warning")
    assert problem.where == f"{uri}:2"
    assert "(the longest has 214)" in problem.message

    tokenizer.model_max_length = 512
    tokenizer.save_pretrained(tmp_path / "model" / "tokenizer_2")  # as FLUX has it: what the first cuts off, this reads
    assert check_tokens(uri, tmp_path / "model").problems == ()


def test_a_model_that_is_known_by_name_counts_tokens_too(tmp_path):
    uri = parquet(tmp_path / "t.parquet", {"prompt": ["a cat", "a green cat " * 80]})
    facts = [describe_model(ModelSettings(model=model)) for model in ("demo", "demo-v")]
    (problem,) = check(uri, models=("demo", "demo-v"), facts=facts).problems
    assert (problem.code, problem.where, problem.count) == ("LM1005", f"{uri}:1", 1)
    weighted = [{"model": "demo", "prompt_encoding": "weighted"}]
    spec = JobSpec(prompts=uri, output="out", models=weighted)
    assert check_rows(open_source(uri, HERE), spec, facts=facts).problems == ()


def test_a_row_is_held_to_the_model_that_it_names(tmp_path):
    long = "a green cat " * 80
    uri = parquet(tmp_path / "t.parquet", {"prompt": [long, long], "model": ["fake", "demo"]})
    facts = [describe_model(ModelSettings(model="demo"))]
    (problem,) = check(uri, models=("fake", "demo"), facts=facts, overrides=["model"]).problems
    assert (problem.code, problem.where, problem.count) == ("LM1005", f"{uri}:1", 1)


def test_the_report_is_json(tmp_path):
    report = check(parquet(tmp_path / "t.parquet", {"prompt": ["", "b"]}))
    data = json.loads(json.dumps(report.to_dict()))
    assert (data["bad_rows"], data["bad_share"], data["problems"][0]["code"]) == (1, 0.5, "LM1003")
