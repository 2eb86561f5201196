"""Each text is encoded once, in calls as large as the batch, and the embeddings are those of the pipeline."""

import pytest
import torch

from actors.models.loading import load_model
from actors.models.pipelines import parameters
from actors.models.settings import ModelSettings
from actors.models.texts import Texts
from actors.models.tiny import tiny_folder
from lanes import make_batch, make_request
from painting import made, own_pipeline


class Counted:
    """A pipeline's text encoder, and what it was asked."""

    def __init__(self, pipeline):
        self.sizes, self.passes = [], []
        pipeline.text_encoder.register_forward_pre_hook(lambda _, args: self.sizes.append(len(args[0])))
        pipeline.unet.register_forward_pre_hook(lambda _, args: self.passes.append(len(args[0])))


@pytest.fixture
def model():
    return load_model(ModelSettings(model="tiny"), device="cpu")


def requests(*texts, **more):
    return [make_request(text, seed, row=seed, steps=2, **more) for seed, text in enumerate(texts)]


def test_prompts_of_several_images_and_a_shared_negative_prompt_are_encoded_once(model):
    counted = Counted(model._pipeline)
    first, second = requests("a", "a", "b", "b", negative="blue"), requests("c", "c", "d", "d", negative="blue")

    for wait in [model.launch(make_batch(*first), second), model.launch(make_batch(*second))]:
        wait()

    assert counted.sizes == [4, 4]  # all four prompts, and the negative one


def test_what_is_encoded_with_others_paints_the_same_picture(model):
    batches = [requests("a fox", "a fox", "rain", "rain"), requests("an owl", "an owl", "Rome", "rain")]
    ahead = [one for batch in batches for one in batch]

    for batch in batches:
        pixels = model.launch(make_batch(*batch), ahead)().pixels
        assert (pixels == made("tiny", batch)).all()


@pytest.mark.parametrize(("guidance", "images"), [(7.5, 4), (1.0, 2), (0.0, 2)])
def test_without_guidance_there_is_neither_a_second_pass_nor_a_negative_prompt(model, guidance, images):
    counted = Counted(model._pipeline)

    model.generate(make_batch(*requests("a", "b", guidance=guidance, negative="blue")))

    assert counted.passes == [images] * 2
    assert counted.sizes == [2] * (images // 2)


def test_no_more_is_kept_than_there_is_room_for(monkeypatch):
    pipeline = own_pipeline(tiny_folder())
    texts, counted = Texts(pipeline, parameters(type(pipeline)), None), Counted(pipeline)
    monkeypatch.setattr("actors.models.texts.KEPT_BYTES", 2 * 77 * 32 * 4)

    with torch.inference_mode():
        for text in ("a", "b", "c", "c", "a"):
            texts.arguments(requests(text, guidance=1.0))

    assert counted.sizes == [1] * 4  # a was the first to go
