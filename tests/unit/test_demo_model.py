"""The demo's model draws what captions say that it never saw in training, in both of its variants."""

import diffusers
import pytest
import torch
from safetensors.torch import load_file

from training.captions import held_out_scenes
from training.evaluate import verdicts
from training.export import FOLDERS

SCENES = [*held_out_scenes("one", 8), *held_out_scenes("count", 2)]
OTHER = {"epsilon": "v_prediction", "v_prediction": "epsilon"}

pytestmark = [
    pytest.mark.skipif(
        not all(folder.is_dir() for folder in FOLDERS.values()),
        reason="the demo's weights are not in the repository yet: training/README.md says how they are made",
    ),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # within diffusers' DPM scheduler
]


def how_many_are_right(prediction, scheduled=None):
    """How many of the captions one variant draws without a fault."""
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(
        str(FOLDERS[prediction]), local_files_only=True, dtype=torch.float32
    )
    scheduler = type(pipeline.scheduler)
    pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config, prediction_type=scheduled or prediction)
    return sum(verdict.right for verdict in verdicts(pipeline, SCENES))


@pytest.mark.parametrize("prediction", FOLDERS)
def test_held_out_captions_are_drawn_right(prediction):
    assert how_many_are_right(prediction) >= len(SCENES) - 2


@pytest.mark.parametrize("prediction", FOLDERS)
def test_with_the_wrong_prediction_type_none_is(prediction):
    assert how_many_are_right(prediction, scheduled=OTHER[prediction]) == 0


def test_both_variants_are_small_and_in_half_precision():
    files = [file for folder in FOLDERS.values() for file in folder.rglob("*.safetensors")]

    assert sum(file.stat().st_size for file in files) <= 12_000_000
    for file in files:
        assert {value.dtype for value in load_file(file).values()} <= {torch.float16, torch.int64}
