"""`make bench-gpu` in miniature: a whole job, the loops and Ray Data, of models as small as can be."""

import json
import os
import subprocess
import sys

import pytest

from benchmarks.gpu.models import MODELS


@pytest.mark.xdist_group("bench")
def test_the_benchmark_for_a_gpu_is_complete(tmp_path):
    command = [sys.executable, "-m", "benchmarks.gpu", "--tiny", "--results", tmp_path, "SD 2.1", "SDXL, 4 steps"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-3000:]
    rows = {row["model"]: row for row in json.loads((tmp_path / "gpu.json").read_text())["rows"]}
    assert rows.keys() == {"SD 2.1", "SDXL, 4 steps"}
    assert rows["SD 2.1"]["job / pure loop"] > 0
    assert rows["SD 2.1"]["TFLOP"] > 0
    assert rows["SDXL, 4 steps"]["job / pipe + save"] > 0
    assert rows["SDXL, 4 steps"]["job / Ray Data"] > 0
    assert len(rows["SD 2.1"]["batches"]) == 2


def test_without_a_gpu_it_says_what_is_still_to_be_taken():
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "benchmarks.gpu"]
    done = subprocess.run(command, env=hidden, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "no GPU is here" in done.stderr


def test_every_goal_of_a_gpu_names_a_model_of_the_table():
    from benchmarks.goals import GOALS

    names = {model.name for model in MODELS}
    said = {goal.measure.removeprefix("GPU, ").partition(":")[0] for goal in GOALS if goal.result == "gpu"}
    assert said <= names
