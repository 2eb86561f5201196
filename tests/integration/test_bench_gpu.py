"""`make bench-gpu` in miniature: a whole job, the loops and Ray Data, of models as small as can be."""

import json
import os
import subprocess
import sys

import pytest

from benchmarks.gpu.models import MODELS


@pytest.mark.xdist_group("bench")
def test_the_benchmark_for_a_gpu_is_complete(tmp_path):
    command = [sys.executable, "-m", "benchmarks.gpu", "--tiny", "--results", tmp_path, "SDXL, 4 steps"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-3000:]
    (row,) = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert row["model"] == "SDXL, 4 steps"
    assert row["job has Ray"]
    assert len(row["batches"]) == 2
    for figure in ("TFLOP", "images/s", "job / pure loop", "job / pipe + save", "job / Ray Data"):
        assert row[figure] > 0


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
