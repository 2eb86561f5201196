"""Every family in small, through its card: what lightmill paints is what diffusers paints, byte for byte."""

import functools
import inspect
import json
import math
import shutil
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from actors.models import configs, registry
from actors.models.loading import load_model
from actors.models.settings import ModelSettings
from actors.models.trust import has_pickles, weights_sha256
from actors.records import InputImages
from actors.settings import UNKNOWN
from lanes import make_batch, make_request
from miniatures.catalogue import CARDS, STRUCTURES, Catalogue

pytestmark = [  # of diffusers, in the comparison
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:In CPU autocast:UserWarning"),
    pytest.mark.filterwarnings("ignore:`FluxPosEmbed` is deprecated:FutureWarning"),  # in its own transformer of Chroma
]
SIDE = 64
STEPS = 3
SEED = 7
PROMPTS = ["a red fox", "a lighthouse at night"]


def together(name):
    """In one process, all models of a structure: it makes them once."""
    return pytest.mark.xdist_group(STRUCTURES[name])


FORMS = [
    pytest.param(card.name, suffix, id=f"{card.name}{suffix}", marks=together(card.name))
    for card in CARDS.values()
    if card.pipeline
    for suffix in ([".ckpt", ".safetensors"] if card.file else [""])
]
IN_ONE_FILE = {
    "stable-diffusion-1-5": "sd1",
    "stable-diffusion-2-1-base": "sd2-base",
    "stable-diffusion-2-1": "sd2-v",
    "stable-diffusion-xl": "sdxl",
    "noobai-xl-v-pred": "sdxl-v",
    "stable-diffusion-1-5-inpainting": None,
    "stable-diffusion-2-inpainting": None,
    "stable-diffusion-x4-upscaler": None,
}
"""Models whose repositories hold a checkpoint beside the folder, by the config that a job names; None: the folder."""


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    top = tmp_path_factory.mktemp("catalogue")
    yield Catalogue.in_folder(top)
    shutil.rmtree(top)


@pytest.fixture
def catalogue(made, monkeypatch):
    """The small catalogue in the place of the one that ships."""
    monkeypatch.setattr(registry, "_SHIPPED", made.top / "cards")
    monkeypatch.setattr(configs, "_SHIPPED", made.top / "configs")
    return made


def load(catalogue, name, suffix="", **words):
    """The model by the name of its card, with the permission that its weights need."""
    card = CARDS[name]
    catalogue.card(name)
    place = catalogue.checkpoint(name, suffix) if suffix else catalogue.folder(name)
    if suffix and place.name != card.file:
        words["file"] = place.name
    if has_pickles(place) and not (card.sha256 and place.name == card.file):
        words["sha256"] = weights_sha256(place)
    trusted = has_pickles(place) or bool(card.vae and card.vae.pickle)
    return load_model(ModelSettings(model=name, allow_pickle=trusted, **words), device="cpu")


def inputs_for(task):
    """Soft pictures, one for each prompt, and what to paint anew of them."""
    if task == "text-to-image":
        return None
    random = np.random.default_rng(3)
    side = SIDE // 4 if task == "upscale" else SIDE
    few = random.integers(0, 256, (len(PROMPTS), 4, 4, 3), dtype=np.uint8)
    images = [np.asarray(Image.fromarray(one).resize((side, side), Image.Resampling.BICUBIC)) for one in few]
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[:, SIDE // 2 :] = 255
    return [InputImages(image=image, mask_image=mask if task == "inpainting" else None, sha256={}) for image in images]


def steps_of(card, strength):
    """So many that the same number are left of them, however little of a picture is painted anew."""
    return math.ceil(min(STEPS, card.num_inference_steps or STEPS) / (strength or 1))


def painted(model, card, checked=True):
    """By lightmill: as a job that names the model and is silent otherwise, but small and with few steps."""
    info = model.info
    inputs = inputs_for(info.task) or [None] * len(PROMPTS)
    requests = [
        make_request(
            text,
            SEED,
            row=row,
            side=SIDE,
            steps=steps_of(card, info.strength),
            guidance=info.guidance_scale,
            negative=info.negative_prompt,
            strength=info.strength,
            noise_level=info.noise_level,
            input_images=one,
        )
        for row, (text, one) in enumerate(zip(PROMPTS, inputs, strict=True))
    ]
    images = model.generate(make_batch(*requests))
    assert images.finite == (True, True)
    assert images.nsfw == ((False, False) if checked and card.safety_checker else (None, None))
    return images.pixels


@functools.cache
def as_diffusers_paints(catalogue, name, task, suffix=""):
    """By a user of diffusers who has read the model's page, and has its folder or the file with this suffix."""
    card = CARDS[name]
    torch.set_num_threads(1)
    pipeline = pipeline_of(catalogue, name, class_of(card, task), suffix)
    pipeline.set_progress_bar_config(disable=True)
    scheduler_class = getattr(diffusers, card.scheduler.name) if card.scheduler else type(pipeline.scheduler)
    options = dict(card.scheduler.arguments) if card.scheduler else {}
    if card.prediction_type in ("epsilon", "v_prediction"):
        options["prediction_type"] = card.prediction_type
    pipeline.scheduler = scheduler_class.from_config(pipeline.scheduler.config, **options)
    parameters = inspect.signature(pipeline.__call__).parameters
    strength = parameters["strength"].default if "strength" in parameters else None
    guidance = "true_cfg_scale" if card.pipeline == "QwenImagePipeline" else "guidance_scale"
    arguments = {
        guidance: card.guidance_scale,
        "num_inference_steps": steps_of(card, strength),
        "generator": [torch.Generator().manual_seed(SEED) for _ in PROMPTS],
        **as_text(pipeline, card),
        **as_pictures(task),
    }
    if "height" in parameters:
        arguments |= {"height": SIDE, "width": SIDE}
    return np.stack([np.asarray(image) for image in pipeline(**arguments).images])


def pipeline_of(catalogue, name, kind, suffix):
    """As diffusers loads it. A file holds the numbers of the folder, but is read itself: how a product is rounded
    depends on where in memory its factors lie, which is another place in each file."""
    pipeline_class, folder, vae = getattr(diffusers, kind), catalogue.folder(name), CARDS[name].vae
    if not suffix:
        return pipeline_class.from_pretrained(str(folder), local_files_only=True, dtype=torch.float32)
    file = catalogue.checkpoint(name, suffix)
    in_file = pipeline_class.from_single_file(str(file), config=str(folder), local_files_only=True)
    for part, own in weights_in(folder, pipeline_class).items():
        numbers = dict(getattr(in_file, part).named_parameters())
        assert all(numbers[key].equal(number) for key, number in own.items())
    if vae:
        in_file.vae = diffusers.AutoencoderKL.from_single_file(
            str(file.parent / vae.file), config=str(folder / "vae"), local_files_only=True
        )
    return in_file


@functools.cache
def weights_in(folder, pipeline_class):
    """The numbers of each part that a checkpoint has."""
    pipeline = pipeline_class.from_pretrained(str(folder), local_files_only=True)
    parts = {part: getattr(pipeline, part, None) for part in ("unet", "vae", "text_encoder", "text_encoder_2")}
    return {part: dict(module.named_parameters()) for part, module in parts.items() if module}


def class_of(card, task):
    if task == card.tasks[0]:
        return card.pipeline
    return card.pipeline.replace("Pipeline", {"image-to-image": "Img2Img", "inpainting": "Inpaint"}[task] + "Pipeline")


def as_text(pipeline, card):
    negatives = [card.negative_prompt] * len(PROMPTS) if card.negative_prompt else None
    if card.clip_skip is None:
        return {"prompt": list(PROMPTS), **({"negative_prompt": negatives} if negatives else {})}

    # diffusers' own `clip_skip` fails with transformers from 5.6 on. Of what is not to be seen no layer is skipped.
    def encode(texts, layers):
        ids = pipeline.tokenizer(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
        seen = pipeline.text_encoder(ids.input_ids, output_hidden_states=True)
        if not layers:
            return seen.last_hidden_state
        return pipeline.text_encoder.final_layer_norm(seen.hidden_states[-1 - layers])

    with torch.inference_mode():
        prompts, others = encode(list(PROMPTS), card.clip_skip), encode(negatives or [""] * len(PROMPTS), 0)
    return {"prompt_embeds": prompts, "negative_prompt_embeds": others}


def as_pictures(task):
    inputs = inputs_for(task)
    if inputs is None:
        return {}
    masks = {"mask_image": [Image.fromarray(one.mask_image) for one in inputs]} if task == "inpainting" else {}
    return {"image": [Image.fromarray(one.image) for one in inputs], **masks}


def assert_alive(pixels):
    """Grey pictures, or pictures that do not follow their prompts, would be equal for no reason."""
    assert pixels.shape == (len(PROMPTS), SIDE, SIDE, 3)
    assert min(picture.std() for picture in pixels) > 10
    assert (pixels[0] != pixels[1]).mean() > 0.1


def test_every_card_that_ships_has_its_miniature():
    assert STRUCTURES.keys() == CARDS.keys() - {"fake"}


@pytest.mark.parametrize(("name", "suffix"), FORMS)
def test_a_model_paints_through_its_card_as_diffusers_does(catalogue, name, suffix):
    card = CARDS[name]
    model = load(catalogue, name, suffix)

    pixels = painted(model, card)

    assert_alive(pixels)
    np.testing.assert_array_equal(pixels, as_diffusers_paints(catalogue, name, card.tasks[0], suffix))
    info = model.info
    assert (info.model, info.task, (info.width, info.height)) == (name, card.tasks[0], card.sizes[0])
    is_meant = suffix in ("", Path(card.file or "").suffix)  # of another file than its own a card says nothing
    assert (info.model_license, info.model_tier) == ((card.license.id, card.tier) if is_meant else (UNKNOWN, UNKNOWN))
    assert info.num_inference_steps == (card.num_inference_steps or 50)


OTHER_TASKS = {(card.pipeline, task): card.name for card in CARDS.values() if not card.file for task in card.tasks[1:]}


@pytest.mark.parametrize(
    ("pipeline", "task"), [pytest.param(*done, marks=together(name)) for done, name in OTHER_TASKS.items()]
)
def test_its_other_tasks_are_done_by_the_same_weights(catalogue, pipeline, task):
    name = OTHER_TASKS[pipeline, task]
    card = CARDS[name]

    pixels = painted(load(catalogue, name, task=task), card)

    assert_alive(pixels)
    np.testing.assert_array_equal(pixels, as_diffusers_paints(catalogue, name, task))


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
@pytest.mark.parametrize("name", [pytest.param(name, marks=together(name)) for name in IN_ONE_FILE])
def test_a_checkpoint_beside_the_folder_paints_the_same(catalogue, name, suffix):
    card = CARDS[name]
    config = IN_ONE_FILE[name] or str(catalogue.folder(name))

    model = load(catalogue, name, suffix, config=config, tokenizer=str(catalogue.folder(name)))

    pixels = painted(model, card, checked=False)  # a file has none with it
    np.testing.assert_array_equal(pixels, as_diffusers_paints(catalogue, name, card.tasks[0], suffix))
    assert json.loads(model.info.recipe)["config"] == Path(config).name


ONE_OF_EACH = {STRUCTURES[card.name]: card.name for card in CARDS.values() if card.pipeline and not card.file}


@pytest.mark.parametrize("name", [pytest.param(name, marks=together(name)) for name in ONE_OF_EACH.values()])
def test_text_encoders_that_lie_elsewhere_are_there_when_they_are_asked(catalogue, name):
    card = CARDS[name]
    model = load(catalogue, name, offload_text_encoders=True)
    parts = model._pipeline.components.items()
    encoders = [part for part_name, part in parts if part_name.startswith("text_encoder") and part is not None]
    places, asked = [places_of(encoder) for encoder in encoders], []
    for encoder in encoders:
        encoder.register_forward_hook(lambda encoder, *_: asked.append(places_of(encoder)))

    pixels = painted(model, card)

    np.testing.assert_array_equal(pixels, as_diffusers_paints(catalogue, name, card.tasks[0]))
    assert asked
    assert not any(there & lying for there in asked for lying in places), "they were copied"
    assert [places_of(encoder) for encoder in encoders] == places


def places_of(module):
    """Where in memory its weights are."""
    return {weight.data_ptr() for weight in module.parameters()}


VELOCITIES = {STRUCTURES[card.name]: card.name for card in CARDS.values() if card.prediction_type == "v_prediction"}


@pytest.mark.parametrize("name", [pytest.param(name, marks=together(name)) for name in VELOCITIES.values()])
def test_the_wrong_prediction_shows(catalogue, name, tmp_path):
    card = CARDS[name]
    words = yaml.safe_load(catalogue.card(name).read_text())
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(yaml.safe_dump({**words, "prediction_type": "epsilon"}))

    pixels = painted(load_model(ModelSettings(model=str(wrong)), device="cpu"), card)

    assert abs(pixels.astype(int) - as_diffusers_paints(catalogue, name, card.tasks[0])).mean() > 8
