"""A lane's images are made with one set of weights, whatever lies at its path by now."""

import json
from types import SimpleNamespace

import pytest
import safetensors.torch

from actors.errors import InputError
from actors.models import trust
from actors.models.model import ModelInfo
from actors.models.tiny import tiny_folder
from actors.storage.opening import open_bucket
from builders import drive, make_spec, read_rows
from jobs.fidelity import Fidelity
from pipelines import copy_of_tiny

TINY = {"num_inference_steps": 1, "batch_size": 2, "threads": 1, "workers": {"max": 1}}


def change(folder):
    """Let the weights at this place be others."""
    (file,) = (folder / "unet").glob("*.safetensors")
    weights = {name: weight * 0.9 for name, weight in safetensors.torch.load_file(file).items()}
    before = file.read_bytes()
    safetensors.torch.save_file(weights, file)
    trust._weights_sha256.cache_clear()
    return file, before


def refusal(leash):
    """The exit status, and which weights are refused."""
    return leash.ends[-1][0], [(problem.code, problem.where) for error in leash.errors for problem in error.problems]


def test_a_job_goes_on_with_the_weights_that_it_began_with(tmp_path):
    folder = copy_of_tiny(tiny_folder(), tmp_path / "model")
    prompts = ["a fox", "an owl", "a whale", "a wren", "a kite"]
    spec = make_spec(tmp_path, prompts, models=[{**TINY, "model": str(folder)}])
    assert drive(spec).ends[-1][0] == 0
    bucket, made = open_bucket(spec.output), read_rows(spec)
    bucket.delete("metadata/000000001.parquet")
    file, before = change(folder)
    assert refusal(drive(spec)) == (3, [("LM1307", "models[0]")])
    assert len(read_rows(spec)) == 4
    file.write_bytes(before)
    trust._weights_sha256.cache_clear()
    assert drive(spec).ends[-1][0] == 0
    assert {key: row["sha256"] for key, row in read_rows(spec).items()} == {
        key: row["sha256"] for key, row in made.items()
    }


def info(weights, **parts):
    recipe = {**parts, "inputs": {"image": {"sha256": "of another row"}}}
    return ModelInfo(model="./model", weights_sha256=weights, recipe=json.dumps(recipe))


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (info("b"), [""]),
        (info("a", vae={"sha256": "d"}, loras=[{"sha256": "e"}, {"sha256": "f"}]), [".loras[1]", ".vae"]),
        (info("a", textual_inversions=[{"sha256": "h"}]), [".textual_inversions[0]"]),
    ],
)
def test_whatever_is_put_into_a_model_is_compared_too_and_the_first_worker_is_the_measure(other, named):
    parts = {
        "vae": {"sha256": "c"},
        "loras": [{"sha256": "e"}, {"sha256": "g"}],
        "textual_inversions": [{"sha256": "i"}],
    }
    fidelity, recipe = Fidelity(), SimpleNamespace(lane=1, stage=1)
    fidelity.require(recipe, info("a", **parts))
    fidelity.require(recipe, info("a", **parts))
    fidelity.require(SimpleNamespace(lane=0, stage=0), other)
    with pytest.raises(InputError) as refused:
        fidelity.require(recipe, other)
    assert [problem.where for problem in refused.value.problems] == [f"stages[1]{name}" for name in named]
