"""What a job may put into a model: a VAE, LoRAs, embeddings, and layers that are skipped."""

import shutil

import diffusers
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from actors.models.trust import weights_sha256
from checkpoints import ldm_vae
from lanes import make_batch, make_request
from painting import REQUESTS, load, made, own_pipeline, painted, recipe_of, refused, trusted
from pipelines import copy_of_tiny


@pytest.fixture(scope="module")
def vae(tmp_path_factory, folder):
    """Another VAE for `tiny`: as a folder, and in single files with and without the prefix of whole checkpoints."""
    place = tmp_path_factory.mktemp("vae")
    found = diffusers.AutoencoderKL.from_pretrained(str(folder / "vae"))
    with torch.no_grad():
        found.decoder.conv_out.weight.mul_(-1)
    found.save_pretrained(place / "folder")
    tensors = ldm_vae(found)
    save_file(tensors, place / "bare.safetensors")
    torch.save(
        {"state_dict": {f"first_stage_model.{key}": value for key, value in tensors.items()}}, place / "vae.ckpt"
    )
    return place, found


@pytest.mark.parametrize("form", ["folder", "bare.safetensors", "vae.ckpt"])
def test_a_vae_takes_the_place_of_the_models_own(folder, vae, form):
    place, module = vae
    trust = trusted(place / form) if form.endswith(".ckpt") else {}
    model = load(folder, vae={"model": str(place / form), **trust})
    pipeline = own_pipeline(folder)
    pipeline.vae = module

    pixels = model.generate(make_batch(*REQUESTS)).pixels

    np.testing.assert_array_equal(pixels, painted(pipeline))
    assert (pixels != made(folder)).any()
    assert recipe_of(model)["vae"] == {"model": str(place / form), "sha256": weights_sha256(place / form)}


@pytest.mark.parametrize("name", ["diffusion_pytorch_model.bin", "diffusion_pytorch_model.BIN"])
def test_a_vae_that_would_be_read_from_a_pickle_needs_permission(folder, vae, tmp_path, name):
    copy = shutil.copytree(vae[0] / "folder", tmp_path / "vae")
    (copy / "diffusion_pytorch_model.safetensors").rename(copy / "diffusion_pytorch_model.fp16.safetensors")
    torch.save(vae[1].state_dict(), copy / name)

    assert refused(folder, vae=str(copy))[0][0] == "LM1204"


@pytest.mark.parametrize("part", ["vae", "textual_inversions"])
def test_a_pickle_is_not_read_in_place_of_safetensors_of_another_name(folder, vae, tmp_path, part):
    place, module = vae
    copy = shutil.copytree(place / "folder", tmp_path / "part")
    (copy / "diffusion_pytorch_model.safetensors").rename(copy / "other.safetensors")
    torch.save(module.state_dict(), copy / "diffusion_pytorch_model.bin")
    torch.save({"<mine>": torch.zeros(32)}, copy / "learned_embeds.bin")

    assert refused(folder, **{part: str(copy) if part == "vae" else [str(copy)]})[0][0] == "LM1222"


def test_what_other_programs_leave_in_a_cache_is_not_of_the_model(folder, tmp_path):
    copy = copy_of_tiny(folder, tmp_path / "cached")
    shutil.copy(*(copy / "unet" / f"diffusion_pytorch_model{variant}.safetensors" for variant in ("", ".fp16")))
    sharded = copy / "unet" / "diffusion_pytorch_model.fp16-00001-of-00002.safetensors"
    sharded.write_bytes(b"half of it")

    assert weights_sha256(copy) == weights_sha256(folder)


def save_lora(folder, path, seed):
    """A LoRA of rank 2 for the UNet's attention, strong enough to be seen."""
    generator = torch.Generator().manual_seed(seed)
    unet = diffusers.UNet2DConditionModel.from_pretrained(str(folder / "unet"))
    tensors = {}
    for name, module in unet.named_modules():
        if name.endswith(("attn2.to_q", "attn2.to_v")):
            wide, long = module.weight.shape
            tensors[f"unet.{name}.lora_A.weight"] = torch.randn(2, long, generator=generator)
            tensors[f"unet.{name}.lora_B.weight"] = torch.randn(wide, 2, generator=generator)
    save_file(tensors, path)
    return path


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`:UserWarning")  # of diffusers' own, in the comparison
def test_loras_act_together_by_their_weights(folder, tmp_path):
    pytest.importorskip("peft", reason="the extra `worker` brings peft, without which diffusers loads no LoRA")
    one, other = (save_lora(folder, tmp_path / f"{seed}.safetensors", seed) for seed in (1, 2))
    model = load(folder, loras=[{"model": str(one), "weight": 0.8}, {"model": str(other), "weight": -0.5}])
    pipeline = own_pipeline(folder)
    for name, path in (("a", one), ("b", other)):
        pipeline.load_lora_weights(str(path.parent), weight_name=path.name, adapter_name=name)
    pipeline.set_adapters(["a", "b"], [0.8, -0.5])

    pixels = model.generate(make_batch(*REQUESTS)).pixels

    np.testing.assert_array_equal(pixels, painted(pipeline))
    assert (pixels != made(folder, loras=[str(one)])).any()
    assert (pixels != made(folder)).any()
    assert [(lora["weight"], lora["sha256"]) for lora in recipe_of(model)["loras"]] == [
        (0.8, weights_sha256(one)),
        (-0.5, weights_sha256(other)),
    ]


def test_a_lora_for_another_kind_of_model_is_refused(folder, tmp_path):
    pytest.importorskip("peft", reason="the extra `worker` brings peft, without which diffusers loads no LoRA")
    layer = "transformer.single_transformer_blocks.0.attn.to_q"
    tensors = {f"{layer}.lora_A.weight": torch.zeros(2, 8), f"{layer}.lora_B.weight": torch.zeros(8, 2)}
    save_file(tensors, tmp_path / "flux.safetensors")

    assert refused(folder, loras=[str(tmp_path / "flux.safetensors")])[0][0] == "LM1222"


def test_an_embedding_brings_its_word(folder, tmp_path):
    vectors = torch.randn(2, 32, generator=torch.Generator().manual_seed(3))
    save_file({"<mine>": vectors}, tmp_path / "mine.safetensors")
    requests = [make_request("a <mine> fox", 1)]
    model = load(folder, textual_inversions=[str(tmp_path / "mine.safetensors")])
    pipeline = own_pipeline(folder)
    pipeline.load_textual_inversion(str(tmp_path / "mine.safetensors"))

    pixels = model.generate(make_batch(*requests)).pixels

    np.testing.assert_array_equal(pixels, painted(pipeline, requests))
    assert (pixels != made(folder, requests)).any()
    assert recipe_of(model)["textual_inversions"][0]["tokens"] == ["<mine>", "<mine>_1"]


def test_an_embedding_of_another_width_is_refused(folder, tmp_path):
    save_file({"<wide>": torch.zeros(48)}, tmp_path / "wide.safetensors")

    assert refused(folder, textual_inversions=[str(tmp_path / "wide.safetensors")])[0][0] == "LM1222"


@pytest.mark.parametrize("architecture", ["sd1", "sd2"])
def test_skipped_layers_are_skipped_for_the_prompt_as_diffusers_means_it(checkpoints, architecture):
    source = checkpoints[1][architecture]
    model = load(source, clip_skip=1)
    pipeline = own_pipeline(source)

    def encode(text, layers):
        ids = pipeline.tokenizer(text, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
        states = pipeline.text_encoder(ids.input_ids, output_hidden_states=True).hidden_states
        return pipeline.text_encoder.final_layer_norm(states[-1 - layers])

    with torch.inference_mode():
        texts = [request.prompt.text for request in REQUESTS]
        embeddings = {"prompt_embeds": encode(texts, 1), "negative_prompt_embeds": encode([""] * 2, 0)}
        expected = pipeline(
            **embeddings,
            height=64,
            width=64,
            num_inference_steps=2,
            guidance_scale=7.5,
            generator=[torch.Generator().manual_seed(request.seed) for request in REQUESTS],
        ).images

    pixels = model.generate(make_batch(*REQUESTS)).pixels

    np.testing.assert_array_equal(pixels, np.stack([np.asarray(image) for image in expected]))
    assert (pixels != made(source)).any()
    assert recipe_of(model) == {"clip_skip": 1}


@pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")
def test_skipped_layers_of_two_encoders_are_diffusers_own(checkpoints):
    source = checkpoints[1]["sdxl"]

    pixels = made(source, clip_skip=1)

    np.testing.assert_array_equal(pixels, painted(own_pipeline(source), clip_skip=1))
    assert (pixels != made(source)).any()


def test_more_layers_than_there_are_cannot_be_skipped(folder):
    assert refused(folder, clip_skip=2) == [("LM1222", "the text encoder has only 2 layers")]


def test_all_parts_that_are_missing_are_named_at_once(folder, tmp_path):
    torch.save({}, tmp_path / "lora.bin")

    told = refused(
        tmp_path / "none", vae=str(tmp_path / "vae"), loras=[str(folder / "unet"), str(tmp_path / "lora.bin")]
    )

    assert [code for code, _ in told] == ["LM1201", "LM1201", "LM1204"]


def test_nothing_put_in_leaves_the_recipe_empty(folder):
    assert load(folder).info.recipe is None
