"""A model whose blocks are compiled, by torch's own compiler."""

import os
import shutil

import pytest

from actors.errors import InputError
from actors.metadata import read_metadata
from actors.models import diffusion
from actors.models.compilation import CACHE
from actors.models.loading import load_model
from actors.models.settings import ModelSettings
from actors.models.tiny import tiny_folder
from actors.warmup import blank_request
from actors.worker import Worker
from lanes import make_batch, make_order, make_recipe, make_request
from pipelines import save_depth, save_inpainting, save_upscaler

NEEDS_COMPILER = pytest.mark.skipif(
    not shutil.which("g++"), reason="torch compiles for a CPU with g++, and there is none"
)
PROMPTS = ["a fox", "an owl", "rain"]


def worker(folder, **settings):
    recipe = make_recipe(
        folder, PROMPTS, model="tiny", width=64, height=64, batch_size=2, num_inference_steps=2, **settings
    )
    return Worker(recipe, "w0")


def rows(worker):
    *_, report = worker.run(make_order(len(PROMPTS)))
    return read_metadata(report.metadata).table.to_pylist()


@NEEDS_COMPILER
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")  # torch's own
def test_a_compiled_model_is_compiled_when_it_is_ready_and_draws_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(CACHE, raising=False)
    import torch

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compiled = worker(tmp_path / "compiled", compile=True)
    kept = tmp_path / "cache" / "lightmill" / "compiled"
    assert os.environ[CACHE] == str(kept)
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert graphs > 0
    assert any(kept.rglob("*.so"))

    found = rows(compiled)

    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs  # the last batch is filled up
    assert [row["batch_size"] for row in found] == [2, 2, 2]
    compiled._device.try_out(make_batch(make_request(), make_request(seed=2), make_request(seed=3)))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs  # nor is a trial of another size compiled
    assert {row["recipe"] for row in found} == {'{"compile": "blocks"}'}


def test_a_machine_that_cannot_compile_says_so_before_any_work(tmp_path, monkeypatch):
    def break_(pipeline):
        def refuse(*_args, **_more):
            raise RuntimeError("g++ is not to be found")

        pipeline.unet.forward = refuse
        return {"compile": "blocks"}

    monkeypatch.setattr(diffusion, "compile_blocks", break_)

    with pytest.raises(InputError, match="LM1225.*cannot be compiled on cpu: g[+][+] is not to be found"):
        worker(tmp_path, compile=True)


@pytest.mark.filterwarnings("ignore:In CPU autocast:UserWarning")  # of the depth estimator
@pytest.mark.parametrize("make", [tiny_folder, save_inpainting, save_depth, save_upscaler])
def test_a_model_is_warmed_up_whatever_it_is_for(tmp_path, make):
    folder = make() if make is tiny_folder else make(tiny_folder(), tmp_path / "model")
    task = {"task": "image-to-image"} if make is tiny_folder else {}
    model = load_model(ModelSettings(model=str(folder), width=64, height=64, **task), device="cpu")

    images = model.generate(make_batch(blank_request(model.info), size=2))

    assert images.pixels.shape == (1, 64, 64, 3)
