"""From a job's words to a model in memory. Imports torch and diffusers only for models that need them."""

import dataclasses
from typing import Literal

from actors.models.facts import ModelFacts, locate_model
from actors.models.fake import FakeModel, FakeOptions
from actors.models.model import ImageModel, ModelInfo
from actors.models.registry import FindCard, find_card
from actors.models.settings import ModelSettings
from actors.models.weights import with_card
from actors.recipe import LaneRecipe


def load_lane(recipe: LaneRecipe) -> ImageModel:
    """The model of a lane, by the card that it had when its job began."""
    return load_model(recipe.model, lambda _: recipe.card, safety_checker=recipe.policy.safety_checker)


def load_model(
    settings: ModelSettings,
    find: FindCard = find_card,
    *,
    threads: int | None = None,
    device: str | None = None,
    safety_checker: Literal["required", "off"] | None = None,
) -> ImageModel:
    """Load the model onto `device`: the GPU where there is one, else the CPU with that many threads. Its own safety
    checker looks at every image, unless it is `off`.

    Raises `InputError` for a model that cannot be used, or is not here; see `locate_model`.
    """
    facts = locate_model(settings, find)
    if facts.pipeline is None:
        return _fake(facts)
    from actors.models.diffusion import DiffusersModel

    if facts.folder is None:
        from actors.models.tiny import tiny_folder

        folder = tiny_folder()
        facts = dataclasses.replace(facts, folder=folder, tokenizer=folder / "tokenizer")
    words = with_card(settings, facts.card)
    threads = settings.threads or threads or 1
    model: ImageModel = DiffusersModel(facts, words, threads=threads, device=device, safety_checker=safety_checker)
    return model


def _fake(facts: ModelFacts) -> ImageModel:
    assert facts.num_inference_steps is not None
    assert facts.guidance_scale is not None
    info = ModelInfo(
        model=facts.model,
        model_license=facts.license,
        model_tier=facts.tier,
        width=facts.width,
        height=facts.height,
        num_inference_steps=facts.num_inference_steps,
        guidance_scale=facts.guidance_scale,
        negative_prompt=facts.negative_prompt,
        size_multiple=facts.size_multiple,
    )
    return FakeModel(info, FakeOptions.parse(facts.model))
