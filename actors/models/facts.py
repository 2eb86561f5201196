"""What can be said of a model without loading anything: from its card, or from the folder that it is in.

The laptop plans with these facts, and a worker starts from the same ones, so both see the same default sizes.
"""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from actors.errors import InputError, Problem
from actors.models.card import ModelCard
from actors.models.configs import config_folder, named_config, refuse_config, tokenizer_folder
from actors.models.fake import FakeOptions
from actors.models.folder import native_size, read_index, refuse_gaps, widest_tokenizer
from actors.models.hub import is_on_hub
from actors.models.kinds import Task
from actors.models.offers import refuse_shortcuts
from actors.models.prompt_encodings import refuse_weights
from actors.models.registry import FindCard, find_card
from actors.models.settings import ModelSettings, ShortcutSettings
from actors.models.tasks import UPSCALE, class_for, own_task, refuse_idle
from actors.models.trust import refuse_pickles
from actors.models.weights import TEXTS_ALONE, arrive, with_card
from actors.settings import UNKNOWN

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
    """As diffusers saves a pipeline; of a checkpoint, the one that describes it. None for what is made on the spot, and
    as long as nobody looked for the weights."""
    file: Path | None = None
    """The checkpoint, where all weights are in a single file."""
    vocabulary: Path | None = None
    """Of its tokenizers, where the folder has none."""
    pipeline: str | None = None
    """Name of the diffusers class; None for `fake`."""
    revision: str | None = None
    num_inference_steps: int | None = None
    """None: the default of the pipeline's class, which only diffusers knows."""
    guidance_scale: float | None = None
    negative_prompt: str = ""
    task: Task = "text-to-image"
    strength: float | None = None
    """None: the default of the pipeline's class; so is `noise_level`."""
    noise_level: int | None = None
    shortcuts: ShortcutSettings = field(default_factory=ShortcutSettings)
    tokenizer: Path | None = None
    """Folder of the tokenizer of which the text encoder reads most."""
    prompt_tokens: int | None = None
    """How many tokens that is, begin and end marks included."""
    license: str = UNKNOWN
    """Identifier of SPDX, where it has one, else of the hub."""
    tier: str = UNKNOWN

    @property
    def weights(self) -> Path:
        """The file or folder that they are in, once somebody has looked for it."""
        found = self.file or self.folder
        assert found is not None
        return found


def describe_model(settings: ModelSettings, find: FindCard = find_card) -> ModelFacts:
    """What can be said of the model from here: of one that has a card, or is on the hub, without any of its weights.

    Raises `InputError`: LM1201 it is not there, LM1204 its weights are pickles, LM1206 it does not do the task, or
    lacks a part, LM1207 it wants to run code of its own, LM1208 its card cannot be used, LM1221 a checkpoint
    does not say what it is, LM1210 the job sets what means nothing to the task, LM1222, LM1225 or
    what such a model cannot do.
    """
    model = settings.model
    if model.partition(":")[0] == "fake":
        FakeOptions.parse(model)
    card = find(model)
    if card is not None:
        facts = _of_card(settings, card)
        if shipped := _shipped(card):
            facts = dataclasses.replace(facts, folder=shipped, tokenizer=widest_tokenizer(shipped)[0])
        elif card.is_local and not settings.mirror:
            facts = _found_in(facts, with_card(settings, card))
    elif settings.mirror or is_on_hub(settings):
        facts = _of_folder(settings, named_config(settings) if settings.file else arrive(settings, texts=True))
    else:
        facts = _of_path(settings, arrive(settings))
    return _as_set(facts, settings)


def locate_model(settings: ModelSettings, find: FindCard = find_card) -> ModelFacts:
    """What `describe_model` says, with all that is loaded for it on this machine, downloaded first where need be.

    Raises `InputError` with everything that is not there, or may not be loaded.
    """
    problems: list[Problem] = []
    facts = None
    try:
        facts = describe_model(settings, find)
        words = with_card(settings, facts.card)
        if facts.folder is None and not _is_built_in(facts):
            facts = _as_set(_found_in(facts, words), settings)
    except InputError as error:
        words, problems = settings, list(error.problems)
    for name, part in words.parts.items():
        if name not in TEXTS_ALONE:
            try:
                refuse_pickles(part, arrive(part, name))
            except InputError as error:
                problems += error.problems
    if problems or facts is None:
        raise InputError(*problems)
    return facts


def _is_built_in(facts: ModelFacts) -> bool:
    return facts.card is not None and facts.card.is_built_in


def _shipped(card: ModelCard) -> Path | None:
    """The folder of a model whose weights come with lightmill."""
    folder = Path(__file__).with_name(card.name)
    return folder if card.is_built_in and folder.is_dir() else None


def _of_card(settings: ModelSettings, card: ModelCard) -> ModelFacts:
    task = _task(settings, card.tasks[0])
    class_for(settings.model, card.pipeline, task)
    width, height = card.sizes[0]
    knows_them = not card.silent_on(settings)
    return ModelFacts(
        model=settings.model,
        card=card,
        task=task,
        width=width,
        height=height,
        size_multiple=card.size_multiple,
        pipeline=card.pipeline,
        revision=TINY_REVISION if card.name == "tiny" else card.revision,
        num_inference_steps=card.num_inference_steps,
        guidance_scale=card.guidance_scale,
        negative_prompt=card.negative_prompt,
        prompt_tokens=card.prompt_tokens,
        license=card.license.id if knows_them else UNKNOWN,
        tier=card.tier if knows_them else UNKNOWN,
    )


def _of_path(settings: ModelSettings, path: Path) -> ModelFacts:
    """Of a model without a card: what its own files say."""
    if path.is_dir():
        refuse_config(settings)
        described = _of_folder(settings, path)
        refuse_gaps(path)
        refuse_pickles(settings, path)
        return dataclasses.replace(described, folder=path)
    refuse_pickles(settings, path)
    config = config_folder(settings, path)
    described = _of_folder(settings, config)
    vocabulary = tokenizer_folder(settings, config)
    return dataclasses.replace(described, folder=config, file=path, vocabulary=vocabulary)


def _of_folder(settings: ModelSettings, folder: Path) -> ModelFacts:
    """What a folder tells, with weights in it or not."""
    index = read_index(folder)
    width, height, multiple = native_size(folder)
    task = _task(settings, own_task(index["_class_name"]))
    class_for(settings.model, index["_class_name"], task)
    tokenizer, tokens = widest_tokenizer(folder)
    return ModelFacts(
        model=settings.model,
        revision=settings.revision,
        task=task,
        width=width,
        height=height,
        # An upscaler's latents are as large as its input, not as its pictures.
        size_multiple=max(multiple, 8 * UPSCALE) if task == "upscale" else multiple,
        pipeline=index["_class_name"],
        tokenizer=tokenizer,
        prompt_tokens=tokens,
    )


def _task(settings: ModelSettings, own: Task) -> Task:
    """What the job wants of a model that was made for its `own` task."""
    return settings.task or ("image-to-image" if settings.of_images and own == "text-to-image" else own)


def _found_in(facts: ModelFacts, words: ModelSettings) -> ModelFacts:
    """The facts of a card, once its weights are found: the pipeline's class is then the one that was saved."""
    found = _of_path(words, arrive(words))
    return dataclasses.replace(
        facts,
        folder=found.folder,
        file=found.file,
        vocabulary=found.vocabulary,
        revision=words.revision,
        pipeline=found.pipeline,
        tokenizer=found.tokenizer,
        prompt_tokens=found.prompt_tokens or facts.prompt_tokens,
    )


def _as_set(facts: ModelFacts, settings: ModelSettings) -> ModelFacts:
    """The facts, with what the job says in place of the model's own defaults."""
    refuse_idle(settings, facts.task, facts.pipeline)
    refuse_weights(settings, facts.pipeline, with_card(settings, facts.card).clip_skip)
    refuse_shortcuts(settings, class_for(settings.model, facts.pipeline, facts.task))
    guidance, negative = settings.guidance_scale, settings.negative_prompt
    return dataclasses.replace(
        facts,
        width=settings.width or facts.width,
        height=settings.height or facts.height,
        num_inference_steps=settings.num_inference_steps or facts.num_inference_steps,
        guidance_scale=facts.guidance_scale if guidance is None else guidance,
        negative_prompt=facts.negative_prompt if negative is None else negative,
        strength=settings.strength,
        noise_level=settings.noise_level,
        shortcuts=settings.shortcuts,
    )
