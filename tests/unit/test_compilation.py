"""A model whose blocks are compiled, by torch's own compiler."""

import os
import shutil

import pytest

from actors.metadata import read_metadata
from actors.models.compilation import CACHE
from actors.worker import Worker
from lanes import make_order, make_recipe

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
    compiled = worker(tmp_path / "compiled", compile=True)
    kept = tmp_path / "cache" / "lightmill" / "compiled"
    assert os.environ[CACHE] == str(kept)
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert graphs > 0
    assert any(kept.rglob("*.so"))

    found = rows(compiled)

    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs  # the last batch is filled up
    assert [row["batch_size"] for row in found] == [2, 2, 2]
    assert {row["recipe"] for row in found} == {'{"compile": "blocks"}'}
