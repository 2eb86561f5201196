"""The safety checker, asked apart, says what it says inside the pipeline, and by how much."""

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from actors.errors import InputError
from actors.models.safety import SafetyChecker
from actors.models.tiny import tiny_folder
from pipelines import save_with_safety_checker

PIXELS = np.random.default_rng(3).integers(0, 255, (12, 2, 2, 3), np.uint8).repeat(20, axis=1).repeat(28, axis=2)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    folder = save_with_safety_checker(tiny_folder(), tmp_path_factory.mktemp("models") / "checked", 0.0)
    loaded = diffusers.StableDiffusionPipeline.from_pretrained(str(folder))
    random = torch.Generator().manual_seed(1)
    for concepts in (loaded.safety_checker.concept_embeds, loaded.safety_checker.special_care_embeds):
        concepts.data.copy_(torch.randn(concepts.shape, generator=random))
    loaded.safety_checker.special_care_embeds_weights.data.fill_(2.0)
    return loaded


@pytest.fixture
def checker(pipeline):
    module = pipeline.safety_checker
    yield SafetyChecker.taken_from(pipeline)
    pipeline.register_modules(safety_checker=module)


def as_diffusers_flags(checker):
    """Of the same pictures, by the checker's own `forward`."""
    seen = checker.extractor([Image.fromarray(picture) for picture in PIXELS], return_tensors="pt").pixel_values
    return checker.module(clip_input=seen, images=[picture.copy() for picture in PIXELS])[1]


def test_it_flags_what_diffusers_flags_wherever_the_threshold_is(checker):
    thresholds = checker.module.concept_embeds_weights
    thresholds.data.zero_()
    plain = checker.scores(PIXELS)
    assert len(set(plain.tolist())) > 6, "pictures that the checker cannot tell apart prove nothing"
    for threshold in np.unique(plain)[::3]:
        for shift in (-0.001, 0.0, 0.001):
            thresholds.data.fill_(float(threshold) + shift)
            assert (checker.scores(PIXELS) > 0).tolist() == as_diffusers_flags(checker)
    thresholds.data.zero_()


def test_special_concepts_make_it_stricter_as_in_diffusers(checker):
    checker.module.concept_embeds_weights.data.zero_()
    before = checker.scores(PIXELS)
    checker.module.special_care_embeds_weights.data.fill_(-2.0)
    np.testing.assert_allclose(checker.scores(PIXELS) - before, 0.01, atol=0.0011)
    checker.module.concept_embeds_weights.data.fill_(float(before[0]) + 0.005)
    assert (checker.scores(PIXELS) > 0).tolist() == as_diffusers_flags(checker)
    checker.module.special_care_embeds_weights.data.fill_(2.0)


def test_it_is_out_of_the_pipeline(pipeline, checker):
    assert pipeline.safety_checker is None
    assert SafetyChecker.taken_from(pipeline) is None


def test_a_checker_of_another_kind_is_refused(pipeline):
    module = pipeline.safety_checker
    pipeline.safety_checker = torch.nn.Identity()
    with pytest.raises(InputError, match="Identity, cannot be asked apart") as caught:
        SafetyChecker.taken_from(pipeline)
    assert caught.value.code == "LM1231"
    pipeline.safety_checker = module
