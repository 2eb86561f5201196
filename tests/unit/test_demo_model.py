"""The demo's model draws what captions say that it never saw in training, in both of its variants."""

import diffusers
import pytest
import torch
from safetensors.torch import load_file

from training.captions import caption, held_out_scenes
from training.evaluate import paint, verdicts
from training.export import FOLDERS

SCENES = [*held_out_scenes("one", 8), *held_out_scenes("count", 2)]

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # in diffusers' scheduler


def load(prediction, scheduled):
    """One variant, whose scheduler is told what it predicts."""
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(
        str(FOLDERS[prediction]), local_files_only=True, dtype=torch.float32
    )
    scheduler = type(pipeline.scheduler)
    pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config, prediction_type=scheduled)
    return pipeline


def how_many_are_right(pipeline):
    """Of the captions, how many it draws without a fault."""
    return sum(verdict.right for verdict in verdicts(pipeline, SCENES))


@pytest.mark.parametrize("prediction", FOLDERS)
def test_held_out_captions_are_drawn_right(prediction):
    assert how_many_are_right(load(prediction, prediction)) >= len(SCENES) - 2


def test_velocity_that_is_taken_for_noise_draws_none_right():
    assert how_many_are_right(load("v_prediction", "epsilon")) == 0


def test_noise_that_is_taken_for_velocity_draws_other_pictures():
    captions = [caption(scene) for scene in SCENES]
    right, wrong = (paint(load("epsilon", scheduled), captions) for scheduled in ("epsilon", "v_prediction"))

    assert abs(right.astype(int) - wrong).mean() > 5  # paler, of which the measure of colours does not tell


def test_both_variants_are_small_and_in_half_precision():
    files = [file for folder in FOLDERS.values() for file in folder.rglob("*.safetensors")]

    assert files
    assert sum(file.stat().st_size for file in files) <= 12_000_000
    for file in files:
        assert {value.dtype for value in load_file(file).values()} <= {torch.float16, torch.int64}
