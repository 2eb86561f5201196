"""What can be said of a model without loading anything: from its card, or from the folder that it is in.

The laptop plans with these facts, and a worker starts from the same ones, so both see the same default sizes.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from actors.errors import InputError, Problem
from actors.models.card import ModelCard
from actors.models.fake import FakeOptions
from actors.models.folder import native_size, read_index, widest_tokenizer
from actors.models.registry import find_card
from actors.models.weights import folder_of, weights_folder
from actors.settings import ModelSettings

TINY_REVISION = "1"
"""Changes whenever the weights of `tiny` do."""
TINY_SIDE = 64
CLIP_TOKENS = 77


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What is known of a model before it is loaded, with the job's own settings already applied."""

    model: str
    """As the job names it."""
    card: ModelCard | None = None
    width: int
    height: int
    size_multiple: int
    folder: Path | None = None
    """None for what is built in, and as long as nobody looked for the weights."""
    pipeline: str | None = None
    """Name of the diffusers class; None for `fake`."""
    revision: str | None = None
    num_inference_steps: int | None = None
    """None: the default of the pipeline's class, which only diffusers knows."""
    guidance_scale: float | None = None
    negative_prompt: str = ""
    tokenizer: Path | None = None
    """Folder of the tokenizer of which the text encoder reads most."""
    prompt_tokens: int | None = None
    """How many tokens that is, begin and end marks included."""
    license: str = "unknown"
    """Identifier of SPDX, where it has one, else of the hub."""
    tier: str = "unknown"


def describe_model(settings: ModelSettings) -> ModelFacts:
    """What can be said of the model from here: of one that has a card, without any of its weights.

    Raises `InputError`: LM1201 it is not there, LM1204 its weights are pickles, LM1206 it does not make images from
    text, or lacks a part, LM1207 it wants to run code of its own, LM1208 its card cannot be used.
    """
    model = settings.model
    is_fake = model.partition(":")[0] == "fake"
    if is_fake:
        FakeOptions.parse(model)
    card = find_card("fake" if is_fake else model)
    if card is None:
        facts = _of_folder(model, folder_of(model))
    else:
        facts = _of_card(model, card)
        if card.is_local:
            facts = _found_in(facts, weights_folder(card))
    return _as_set(facts, settings)


def locate_model(settings: ModelSettings) -> ModelFacts:
    """What `describe_model` says, with the weights on this machine. Raises `InputError` (LM1201) where they are not."""
    facts = describe_model(settings)
    if facts.folder is not None or facts.card is None or facts.card.format == "built_in":
        return facts
    return _found_in(facts, weights_folder(facts.card))


def _of_card(model: str, card: ModelCard) -> ModelFacts:
    if "text-to-image" not in card.tasks:
        raise InputError(
            Problem(
                "LM1206",
                f"{model} does not make images from text alone: it is for {' and '.join(card.tasks)}",
                help="use one that `lightmill models --task text-to-image` lists",
            )
        )
    width, height = card.sizes[0]
    return ModelFacts(
        model=model,
        card=card,
        width=width,
        height=height,
        size_multiple=card.size_multiple,
        pipeline=card.pipeline,
        revision=TINY_REVISION if card.name == "tiny" else card.revision,
        num_inference_steps=card.num_inference_steps,
        guidance_scale=card.guidance_scale,
        negative_prompt=card.negative_prompt,
        prompt_tokens=card.prompt_tokens,
        license=card.license.id,
        tier=card.tier,
    )


def _of_folder(model: str, folder: Path) -> ModelFacts:
    """Of a model without a card: what its own files say."""
    index = read_index(folder)
    width, height, multiple = native_size(folder)
    tokenizer, tokens = widest_tokenizer(folder)
    return ModelFacts(
        model=model,
        width=width,
        height=height,
        size_multiple=multiple,
        folder=folder,
        pipeline=index["_class_name"],
        tokenizer=tokenizer,
        prompt_tokens=tokens,
    )


def _found_in(facts: ModelFacts, folder: Path) -> ModelFacts:
    """The facts of a card, once its weights are found: the pipeline's class is then the one that was saved."""
    found = _of_folder(facts.model, folder)
    return dataclasses.replace(
        facts,
        folder=folder,
        pipeline=found.pipeline,
        tokenizer=found.tokenizer,
        prompt_tokens=found.prompt_tokens or facts.prompt_tokens,
    )


def _as_set(facts: ModelFacts, settings: ModelSettings) -> ModelFacts:
    """The facts, with what the job says in place of the model's own defaults."""
    guidance, negative = settings.guidance_scale, settings.negative_prompt
    return dataclasses.replace(
        facts,
        width=settings.width or facts.width,
        height=settings.height or facts.height,
        num_inference_steps=settings.num_inference_steps or facts.num_inference_steps,
        guidance_scale=facts.guidance_scale if guidance is None else guidance,
        negative_prompt=facts.negative_prompt if negative is None else negative,
    )
