"""A job as its file, the environment and the flags say it, and what is said of a job that cannot be."""

import pytest

from actors.errors import InputError, UsageError
from cluster.jobfile import load_job

JOB = """\
prompts: prompts.csv
output: out
seed: 7
models:
  - model: fake
    num_inference_steps: 25
limits: {max_attempts: 5}
"""
FLAGS = {"prompts": "p.csv", "output": "o", "model": "fake"}


@pytest.fixture
def job(tmp_path):
    """Write a job file."""

    def write(text):
        path = tmp_path / "job.yaml"
        path.write_text(text)
        return path

    return write


def refusal(path, flags=None):
    with pytest.raises(InputError) as caught:
        load_job(path, flags or {})
    return caught.value.problems


def test_flags_override_the_environment_which_overrides_the_file(job, monkeypatch):
    path = job(JOB)
    assert load_job(path, {}).seed == 7
    monkeypatch.setenv("LIGHTMILL_SEED", "8")
    monkeypatch.setenv("LIGHTMILL_LIMITS__MAX_FAILED_SHARE", "0.5")
    spec = load_job(path, {})
    assert (spec.seed, spec.limits.max_failed_share, spec.limits.max_attempts) == (8, 0.5, 5)
    assert load_job(path, {"seed": 9}).seed == 9


def test_a_models_flag_changes_that_one_field_of_the_only_model(job):
    model = load_job(job(JOB), {"guidance_scale": 3.0}).models[0]
    assert (model.model, model.num_inference_steps, model.guidance_scale) == ("fake", 25, 3.0)


def test_a_models_flag_is_refused_where_there_are_several(job):
    path = job(JOB.replace("  - model: fake", "  - model: tiny\n  - model: fake"))
    with pytest.raises(UsageError, match=r"LM1103.*--batch-size does not say which of the job's 2 models"):
        load_job(path, {"batch_size": 2})


def test_paths_of_the_file_are_relative_to_it_and_those_of_flags_to_the_current_folder(job, tmp_path, monkeypatch):
    path = job(JOB.replace("model: fake", "model: ./sd"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    spec = load_job(path, {})
    assert (spec.prompts, spec.output) == (str(tmp_path / "prompts.csv"), str(tmp_path / "out"))
    assert spec.models[0].model == str(tmp_path / "sd")
    assert load_job(path, {"output": "../here"}).output == str(tmp_path / "here")
    monkeypatch.setenv("LIGHTMILL_OUTPUT", "there")
    assert load_job(path, {}).output == str(elsewhere / "there")


def test_a_name_of_two_parts_is_a_path_where_one_is_there_and_no_card_knows_it(job, tmp_path):
    model = "models/sd\n    vae: stabilityai/sdxl-turbo\n    loras: [someone/style]"
    for name in ("models/sd", "stabilityai/sdxl-turbo"):
        (tmp_path / name).mkdir(parents=True)
    (settings,) = load_job(job(JOB.replace("fake", model)), {}).models
    assert settings.model == str(tmp_path / "models/sd")
    assert [part.model for part in settings.parts.values()] == ["stabilityai/sdxl-turbo", "someone/style"]


def test_the_block_list_is_a_path_too(job, tmp_path, monkeypatch):
    path = job(f"{JOB}\nprompt_filter: {{block_list: lists/blocked.txt}}\n")
    assert load_job(path, {}).prompt_filter.block_list == str(tmp_path / "lists/blocked.txt")
    monkeypatch.setenv("LIGHTMILL_PROMPT_FILTER__BLOCK_LIST", "s3://lists/blocked.txt")
    assert load_job(path, {}).prompt_filter.block_list == "s3://lists/blocked.txt"


def test_the_folder_of_input_images_is_a_path_too(job, tmp_path):
    assert load_job(job(f"{JOB}\ninputs: {{folder: photos}}\n"), {}).inputs.folder == str(tmp_path / "photos")
    assert load_job(job(f"{JOB}\ninputs: {{folder: s3://in/a}}\n"), {}).inputs.folder == "s3://in/a"


def test_urls_are_left_alone(job):
    text = JOB.replace("output: out", "output: s3://bucket/out").replace("prompts.csv", "s3://in/a*.csv")
    spec = load_job(job(text), {})
    assert (spec.prompts, spec.output) == ("s3://in/a*.csv", "s3://bucket/out")


def test_every_problem_at_once_with_the_lines_of_the_file(job):
    path = job(
        JOB.replace("seed", "sede").replace("num_inference_steps: 25", "num_inference_steps: many\n    widht: 8")
    )
    found = {(problem.code, problem.message, problem.where, problem.help) for problem in refusal(path)}
    assert found == {
        ("LM1101", 'unknown key "sede"', f"{path}:3", "did you mean seed?"),
        ("LM1102", "models[0].num_inference_steps must be a valid integer", f"{path}:6", "correct num_inference_steps"),
        ("LM1101", 'unknown key "models[0].widht"', f"{path}:7", "did you mean width?"),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("storage: {endpoint_url: 9000}", "storage.endpoint_url must be a URL such as https://store.example:9000"),
        (
            "storage: {endpoint_url: 'https://me:hidden@store.example'}",
            "storage.endpoint_url must be a URL without a password, which would be kept in the manifest and shown",
        ),
        ("name: a b", "name must match ^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"),
        ("seed: -1", "seed must be greater than or equal to 0"),
        ("seed: 1.5", "seed must be a valid integer"),
        ("overrides: [sed]", "overrides[0] must be 'negative_prompt', 'seed'"),
        (
            "limits: {batch_timeout_seconds: .inf}",
            "limits.batch_timeout_seconds must be less than or equal to 86400",
        ),
        ("models: []", "models must have at least 1 item after validation, not 0"),
        ("models: fake", "models must be a list"),
        ("encoding: {format: gif}", "encoding.format must be 'webp', 'png' or 'jpeg'"),
        ("columns: {prmpt: a}", "columns must be named by what they mean"),
    ],
)
def test_a_wrong_value_is_named_with_its_line(job, text, message):
    kept = "".join(
        line + "\n" for line in JOB.splitlines() if not line.startswith(text.partition(":")[0] + ":") and line[0] != " "
    ).replace("models:\n", "models: [{model: fake}]\n")
    path = job(f"{text}\n{kept}")
    (problem,) = refusal(path)
    assert problem.code == "LM1102"
    assert problem.message.startswith(message)
    assert problem.where == f"{path}:1"
    assert "hidden" not in str(problem)


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("checks: {blank: no}", "YAML reads a bare yes, no, on or off as true or false"),
        ("name: off", "YAML reads a bare yes, no, on or off as true or false"),
        ("name: 2026", "put it in quotes"),
        ("name: 2026-11-28", "put it in quotes"),
        ("name: [a]", "correct name"),
    ],
)
def test_a_word_that_yaml_takes_for_something_else_belongs_in_quotes(job, text, action):
    (problem,) = refusal(job(JOB + text + "\n"))
    assert (problem.code, problem.help.partition(":")[0]) == ("LM1102", action)


def test_a_missing_field_is_named(job):
    (problem,) = refusal(job(JOB.replace("prompts: prompts.csv\n", "")))
    assert (problem.code, problem.message) == ("LM1102", "prompts is missing")


def test_without_a_job_file_every_missing_flag_is_named():
    with pytest.raises(UsageError, match="LM1103.*missing: --prompts, --model"):
        load_job(None, {"output": "out"})


@pytest.mark.parametrize(
    ("flags", "where"),
    [
        ({"batch_size": 0}, "--batch-size"),
        ({"shard_size": 0}, "--shard-size"),
        ({"encoding": {"format": "gif"}}, "--image-format"),
        ({"overrides": ["sed"]}, "--override"),
    ],
)
def test_a_wrong_flag_is_called_by_its_name(flags, where):
    (problem,) = refusal(None, {**FLAGS, **flags})
    assert (problem.code, problem.where) == ("LM1102", where)


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("LIGHTMILL_SEED", "x", "LM1102"),
        ("LIGHTMILL_LIMITS__MAX_ATEMPTS", "3", "LM1101"),
        ("LIGHTMILL_OVERRIDES", "seed", "LM1102"),
        ("LIGHTMILL_SEDE", "8", "LM1101"),
        ("LIGHTMILL_SEED__VALUE", "8", "LM1101"),
        ("LIGHTMILL_LIMIT__MAX_ATTEMPTS", "3", "LM1101"),
        ("LIGHTMILL_", "3", "LM1101"),
    ],
)
def test_a_wrong_variable_is_called_by_its_name(monkeypatch, name, value, code):
    monkeypatch.setenv(name, value)
    (problem,) = refusal(None, FLAGS)
    assert (problem.code, problem.where) == (code, f"{name} in the environment")


@pytest.mark.parametrize(
    ("name", "meant"), [("LIGHTMILL_SEDE", "LIGHTMILL_SEED"), ("LIGHTMILL_SHARDSIZE", "LIGHTMILL_SHARD_SIZE")]
)
def test_a_mistyped_variable_is_told_which_was_meant(monkeypatch, name, meant):
    monkeypatch.setenv(name, "8")
    (problem,) = refusal(None, FLAGS)
    assert problem.help == f"did you mean {meant}?"


def test_a_mistyped_variable_is_named_beside_what_is_wrong_for_want_of_it(monkeypatch):
    monkeypatch.setenv("LIGHTMILL_PROMTS", "here.csv")
    found = refusal(None, {name: value for name, value in FLAGS.items() if name != "prompts"})
    assert [(problem.code, problem.help) for problem in found] == [
        ("LM1101", "did you mean LIGHTMILL_PROMPTS?"),
        ("LM1102", "add prompts"),
    ]


def test_variables_of_ours_that_are_no_fields_are_left_alone(monkeypatch):
    monkeypatch.setenv("LIGHTMILL_CRASH", "commit.put")
    monkeypatch.setenv("LIGHTMILLING", "1")
    assert load_job(None, FLAGS).seed == 0


def test_a_file_that_is_not_there(tmp_path):
    (problem,) = refusal(tmp_path / "none.yaml")
    assert (problem.code, problem.where) == ("LM1104", str(tmp_path / "none.yaml"))


def test_a_folder_is_no_job_file(tmp_path):
    assert [problem.code for problem in refusal(tmp_path)] == ["LM1104"]


def test_a_file_that_is_no_text(tmp_path):
    path = tmp_path / "job.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    assert [problem.code for problem in refusal(path)] == ["LM1104"]


@pytest.mark.parametrize(
    ("text", "where"), [("seed: [1\noutput: 2", ":2:7"), ("seed: 1\n\toutput: 2", ":2:1"), ("- a", "")]
)
def test_what_is_not_yaml_is_refused_with_its_line(job, text, where):
    path = job(text)
    (problem,) = refusal(path)
    assert (problem.code, problem.where) == ("LM1100", f"{path}{where}")
