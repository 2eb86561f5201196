import json
import shutil
import subprocess
import sys

import pytest

from actors.errors import InputError
from actors.models.facts import describe_model
from actors.settings import ModelSettings

INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "safety_checker": [None, None],
}
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
    write(folder / "unet" / "config.json", {"sample_size": 64})
    write(folder / "vae" / "config.json", FOUR_BLOCKS)
    for part in ("unet", "vae"):
        write(folder / part / "diffusion_pytorch_model.safetensors", "")
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


def test_the_jobs_settings_come_before_the_models(folder):
    facts = describe(folder, width=768, num_inference_steps=20, guidance_scale=0)

    assert (facts.width, facts.height, facts.num_inference_steps, facts.guidance_scale) == (768, 512, 20, 0)


def test_a_transformer_takes_patches_and_is_made_for_a_megapixel(folder):
    shutil.rmtree(folder / "unet")
    parts = {name: part for name, part in INDEX.items() if name != "unet"}
    more = {"_class_name": "FluxPipeline", "tokenizer_2": ["transformers", "T5Tokenizer"]}
    write(folder / "model_index.json", {**parts, **more, "transformer": ["diffusers", "FluxTransformer2DModel"]})
    write(folder / "transformer" / "config.json", {"patch_size": 1})
    write(folder / "transformer" / "diffusion_pytorch_model.safetensors", "")
    write(folder / "tokenizer_2" / "tokenizer_config.json", {"model_max_length": 512})

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
        ("stabilityai/sdxl", 'model "stabilityai/sdxl" not found; did you mean stabilityai/sdxl-turbo?'),
        ("fake:pase=1", '`fake` has no option "pase"; did you mean pace?'),
        ("fake:pace=fast", '"fast" is not a number'),
    ],
)
def test_a_model_that_is_not_there_is_told_with_what_is_possible(model, message):
    (problem,) = problems(model)

    assert (problem.code, problem.message) == ("LM1201", message)
    assert problem.help


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
        {**INDEX, "_class_name": "StableDiffusionInpaintPipeline"},
        {**INDEX, "_class_name": "StableDiffusionUpscalePipeline"},
        {"_class_name": "DDPMPipeline", "unet": ["diffusers", "UNet2DModel"]},
        {},
        [],
        "no JSON at all",
    ],
)
def test_what_makes_no_images_from_text_is_refused(folder, index):
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
        "import sys; from actors.models.facts import describe_model; from actors.settings import ModelSettings;"
        f"describe_model(ModelSettings(model={str(folder)!r}));"
        "sys.exit(' '.join({'torch', 'diffusers', 'transformers'} & set(sys.modules)))"
    )

    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)

    assert told.stderr.strip() == ""
