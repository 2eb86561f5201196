"""What a job may put into a model, and the files that it may load one from: the pictures are diffusers' own."""

import json
import shutil
from importlib import resources
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
import transformers
import yaml
from safetensors.torch import load_file, save_file

from actors.errors import InputError
from actors.models.configs import CONFIGS
from actors.models.diffusion import guidance_parameter
from actors.models.facts import describe_model
from actors.models.folder import read_json
from actors.models.loading import load_model
from actors.models.pipelines import parameters
from actors.models.sampling import set_scheduler
from actors.models.schedulers import SCHEDULERS
from actors.models.tiny import tiny_folder
from actors.models.trust import weights_sha256
from actors.settings import ModelSettings
from checkpoints import ldm_vae, save_checkpoint
from lanes import make_batch, make_request
from pipelines import copy_of_tiny, save_v2, save_xl

REQUESTS = [make_request("a red fox", 1), make_request("a lighthouse", 2, row=1)]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`tiny` as a folder of the user's."""
    return copy_of_tiny(tiny_folder(), tmp_path_factory.mktemp("models") / "sd1")


def own_pipeline(folder):
    torch.set_num_threads(1)
    found = diffusers.DiffusionPipeline.from_pretrained(str(folder), local_files_only=True)
    found.set_progress_bar_config(disable=True)
    return found


def painted(pipeline, requests=REQUESTS, **more):
    output = pipeline(
        prompt=[request.prompt.text for request in requests],
        height=requests[0].height,
        width=requests[0].width,
        num_inference_steps=requests[0].num_inference_steps,
        guidance_scale=7.5,
        generator=[torch.Generator().manual_seed(request.seed) for request in requests],
        **more,
    )
    return np.stack([np.asarray(image) for image in output.images])


def made(model, requests=REQUESTS, **settings):
    return load(model, **settings).generate(make_batch(*requests)).pixels


def load(model, **settings):
    return load_model(ModelSettings(model=str(model), **settings), device="cpu")


def refused(model, **settings):
    with pytest.raises(InputError) as caught:
        load(model, **settings)
    return [(problem.code, problem.message) for problem in caught.value.problems]


def recipe_of(model):
    return json.loads(model.info.recipe)


# Schedulers


@pytest.fixture(scope="module")
def velocity(tmp_path_factory):
    """A folder whose weights predict velocity, as far as its scheduler knows, and diffusers' own pipeline of it."""
    folder = copy_of_tiny(tiny_folder(), tmp_path_factory.mktemp("models") / "v")
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "prediction_type": "v_prediction"}))
    pipeline = own_pipeline(folder)
    return folder, pipeline, pipeline.scheduler.config


@pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")  # within diffusers' schedulers
@pytest.mark.parametrize("name", [name for name in SCHEDULERS if "lms" not in name and not name.endswith("Scheduler")])
def test_a_scheduler_is_the_one_of_diffusers_and_keeps_the_prediction_type(velocity, name):
    folder, pipeline, config = velocity
    model = load(folder, scheduler=name)
    scheduler_class = getattr(diffusers, SCHEDULERS[name].class_name)
    pipeline.scheduler = scheduler_class.from_config(config, **SCHEDULERS[name].options)
    requests = [make_request(r.prompt.text, r.seed, row=n, side=32, steps=3) for n, r in enumerate(REQUESTS)]

    pixels = model.generate(make_batch(*requests)).pixels

    np.testing.assert_array_equal(pixels, painted(pipeline, requests))
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    assert pipeline.scheduler.config.beta_schedule == "scaled_linear"
    assert model.info.scheduler == scheduler_class.__name__
    assert recipe_of(model)["scheduler"]["name"] == name
    assert recipe_of(model)["scheduler"]["prediction_type"] == "v_prediction"
    # Noise that is added on the way is each image's own, too.
    np.testing.assert_array_equal(model.generate(make_batch(requests[1], size=2)).pixels[0], pixels[1])


@pytest.mark.parametrize("scheduler", [{"name": "DDIMScheduler"}, None])
def test_a_card_knows_what_weights_do_not_say(velocity, folder, tmp_path, scheduler):
    card = tmp_path / "mine.yaml"
    words = yaml.safe_load((resources.files("actors.models") / "cards" / "tiny.yaml").read_text())
    place = {"name": "mine", "id": str(folder), "format": "folder"}
    how = {"prediction_type": "v_prediction", "scheduler": scheduler}
    card.write_text(yaml.safe_dump({**words, **place, **how}))

    model = load(card)

    np.testing.assert_array_equal(model.generate(make_batch(*REQUESTS)).pixels, made(velocity[0]))
    assert recipe_of(model) == {"scheduler": {"name": "DDIMScheduler", "prediction_type": "v_prediction"}}
    assert recipe_of(load(card, scheduler="euler"))["scheduler"]["prediction_type"] == "v_prediction"


def test_a_scheduler_goes_by_its_class_too(velocity):
    model = load(velocity[0], scheduler="pndmscheduler")

    assert (model.info.scheduler, recipe_of(model)["scheduler"]["skip_prk_steps"]) == ("PNDMScheduler", True)


@pytest.mark.parametrize(
    ("said", "meant"),
    [("DPM++ 2M Karras", "dpm++ 2m karras"), ("k_euler_ancestral", "euler a"), ("dpmpp_2m_sde", "dpm++ 2m sde")],
)
def test_schedulers_are_known_by_the_names_of_other_programs(said, meant):
    assert ModelSettings(model="tiny", scheduler=said).scheduler == meant


def test_an_unknown_scheduler_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"did you mean dpm\+\+ 2m karras\?"):
        ModelSettings(model="tiny", scheduler="dpm+ 2m karas")


def test_what_a_model_was_trained_with_is_never_dropped(tmp_path):
    folder = copy_of_tiny(tiny_folder(), tmp_path / "zero-snr")
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "rescale_betas_zero_snr": True}))

    ((code, message),) = refused(folder, scheduler="heun")
    assert code == "LM1222"
    assert "cannot keep what this model was trained with (rescale_betas_zero_snr: True)" in message
    assert recipe_of(load(folder, scheduler="euler"))["scheduler"]["rescale_betas_zero_snr"] is True


@pytest.mark.parametrize("how", [{"use_flow_sigmas": True}, {"prediction_type": "flow_prediction"}])
def test_a_flow_of_its_own_is_kept(how):
    class Sana:
        scheduler = diffusers.DPMSolverMultistepScheduler(**how)

    with pytest.raises(InputError, match="LM1222"):
        set_scheduler(Sana(), "euler")


@pytest.mark.parametrize(
    ("pipeline", "name"),
    [
        ("QwenImagePipeline", "true_cfg_scale"),
        ("FluxPipeline", "guidance_scale"),
        ("StableDiffusionPipeline", "guidance_scale"),
    ],
)
def test_guidance_goes_by_the_name_that_the_pipeline_has_for_it(pipeline, name):
    assert guidance_parameter(parameters(getattr(diffusers, pipeline))) == name


def test_a_scheduler_whose_library_is_not_installed_is_refused(folder, monkeypatch):
    class Dummy:
        _backends = ("torch", "scipy")

    monkeypatch.setattr(diffusers, "LMSDiscreteScheduler", Dummy)

    assert refused(folder, scheduler="lms") == [("LM1222", "LMSDiscreteScheduler needs scipy, which is not installed")]


# Single files


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory, folder):
    """Folders of each architecture, and the same weights in single files."""
    place = tmp_path_factory.mktemp("checkpoints")
    folders = {
        "sd1": folder,
        "sd2": save_v2(tiny_folder(), place / "sd2-folder", "epsilon"),
        "sdxl": save_xl(tiny_folder(), place / "sdxl-folder", width=48),
    }
    for name, source in folders.items():
        save_checkpoint(source, place / f"{name}.ckpt")
        save_checkpoint(source, place / f"{name}.safetensors")
    return place, folders


def trusted(path):
    return {"allow_pickle": True, "sha256": weights_sha256(path)}


@pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")
@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
@pytest.mark.parametrize("name", ["sd1", "sd2", "sdxl"])
def test_a_single_file_paints_as_the_folder_does(checkpoints, name, suffix):
    place, folders = checkpoints
    file = place / f"{name}{suffix}"
    model = load(file, config=str(folders[name]), **(trusted(file) if suffix == ".ckpt" else {}))

    pixels = model.generate(make_batch(*REQUESTS)).pixels

    np.testing.assert_array_equal(pixels, painted(own_pipeline(folders[name])))
    assert model.info.weights_sha256 == weights_sha256(file)
    assert recipe_of(model) == {"config": folders[name].name}


def test_the_wrong_prediction_type_shows(checkpoints):
    place, folders = checkpoints
    velocity = save_v2(tiny_folder(), place / "sd2-v-folder", "v_prediction")

    right, wrong = (made(place / "sd2.safetensors", config=str(config)) for config in (folders["sd2"], velocity))

    assert abs(right.astype(int) - wrong).mean() > 8


def test_a_vocabulary_may_come_from_elsewhere_and_the_config_keeps_its_padding(checkpoints, tmp_path):
    place, folders = checkpoints
    config = copy_of_tiny(folders["sd2"], tmp_path / "sd2-base")
    for name in ("vocab.json", "merges.txt", "tokenizer.json"):
        (config / "tokenizer" / name).unlink(missing_ok=True)
    settings = (config / "tokenizer" / "tokenizer_config.json").read_text()
    (config / "tokenizer" / "tokenizer_config.json").write_text(json.dumps({**json.loads(settings), "pad_token": "!"}))

    assert [code for code, _ in refused(place / "sd2.safetensors", config=str(config))] == ["LM1221"]
    model = load(place / "sd2.safetensors", config=str(config), tokenizer=str(tiny_folder()))

    own = own_pipeline(folders["sd2"])
    own.tokenizer.pad_token = "!"
    assert own.tokenizer.pad_token_id == own.tokenizer.convert_tokens_to_ids("!")
    np.testing.assert_array_equal(model.generate(make_batch(*REQUESTS)).pixels, painted(own))


class Canary:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".bin", ".CKPT", ".model", ".SAFETENSORS", ""])
def test_a_pickle_that_runs_code_runs_none(checkpoints, tmp_path, suffix):
    _, folders = checkpoints
    canary, file = tmp_path / "canary", tmp_path / f"evil{suffix}"
    save_checkpoint(folders["sd1"], tmp_path / "evil.ckpt", evil=Canary(canary))
    (tmp_path / "evil.ckpt").rename(file)
    config = str(folders["sd1"])

    assert refused(file, config=config)[0][0] == "LM1204"
    assert refused(file, config=config, allow_pickle=True)[0][0] == "LM1204"
    assert refused(file, config=config, **trusted(file))[0] == (
        "LM1204",
        f"evil{suffix} holds more than tensors, and is not loaded",
    )
    assert not canary.exists()
    torch.load(file, weights_only=False)  # to see that it would
    assert canary.exists()


@pytest.fixture(scope="module")
def pickled(tmp_path_factory, folder):
    """`tiny` with a UNet in a pickle, as many older models are."""
    copy = copy_of_tiny(folder, tmp_path_factory.mktemp("models") / "pickled")
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    return copy


def test_a_folder_of_pickles_needs_permission_and_a_hash(pickled, folder):
    assert refused(pickled)[0][0] == "LM1204"
    assert refused(pickled, allow_pickle=True)[0][0] == "LM1204"

    np.testing.assert_array_equal(made(pickled, **trusted(pickled)), made(folder))


def test_a_pickle_in_a_folder_that_runs_code_runs_none(pickled, tmp_path):
    copy = copy_of_tiny(pickled, tmp_path / "evil")
    canary, weights = tmp_path / "canary", copy / "unet" / "diffusion_pytorch_model.bin"
    torch.save({**torch.load(weights, weights_only=True), "evil": Canary(canary)}, weights)

    assert refused(copy, **trusted(copy))[0][0] == "LM1206"
    assert not canary.exists()


def test_another_file_than_the_job_names_is_not_read(checkpoints, folder):
    place, folders = checkpoints
    others = {"allow_pickle": True, "sha256": "0" * 64}

    assert refused(place / "sd1.ckpt", config=str(folders["sd1"]), **others)[0][0] == "LM1220"
    assert refused(folder, sha256="0" * 64)[0][0] == "LM1220"
    assert refused("tiny", vae={"model": str(folder / "vae"), "sha256": "0" * 64})[0][0] == "LM1220"


# What a file is


def write_shapes(path, in_channels=4, context=1024, **more):
    unet = "model.diffusion_model.input_blocks."
    first = {f"{unet}0.0.weight": torch.zeros(8, in_channels, 1, 1)}
    to_k = {f"{unet}1.1.transformer_blocks.0.attn2.to_k.weight": torch.zeros(8, context)}
    tensors = {**first, **to_k, **more}
    if path.suffix == ".ckpt":
        torch.save({"state_dict": tensors}, path)
    else:
        save_file(tensors, path)
    return path


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
@pytest.mark.parametrize(
    ("context", "more", "config", "size"),
    [
        (768, {}, None, 512),
        (1024, {}, "sd2-base", 512),
        (1024, {}, "sd2-v", 768),
        (2048, {}, None, 1024),
        (2048, {"v_pred": torch.zeros(1)}, None, 1024),
    ],
)
def test_shapes_tell_what_a_file_is(tmp_path, suffix, context, more, config, size):
    file = write_shapes(tmp_path / f"model{suffix}", context=context, **more)
    permission = {"allow_pickle": True, "sha256": "0" * 64} if suffix == ".ckpt" else {}
    expected = {768: "sd1", 1024: config, 2048: "sdxl-v" if more else "sdxl"}[context]

    facts = describe_model(ModelSettings(model=str(file), config=config, tokenizer=str(tiny_folder()), **permission))

    assert (facts.folder.name, facts.width, facts.height, facts.prompt_tokens) == (expected, size, size, 77)


def described_problem(file, **settings):
    with pytest.raises(InputError) as caught:
        describe_model(ModelSettings(model=str(file), tokenizer=str(tiny_folder()), **settings))
    (problem,) = caught.value.problems
    assert problem.code == "LM1221"
    return f"{problem.message}; {problem.help}"


def test_what_shapes_cannot_tell_the_job_has_to(tmp_path):
    second = write_shapes(tmp_path / "second.safetensors")

    assert "`config: sd2-base` (noise) or `config: sd2-v` (velocity)" in described_problem(second)
    assert "is not what the config sd1 describes" in described_problem(second, config="sd1")
    assert "no architecture" in described_problem(write_shapes(tmp_path / "inpainting.safetensors", in_channels=9))
    assert "it has no model_index.json" in described_problem(second, config=str(tmp_path))


def test_what_is_no_checkpoint_is_told(tmp_path):
    (tmp_path / "lfs.safetensors").write_text("version https://git-lfs.github.com/spec/v1")
    (tmp_path / "short.ckpt").write_bytes(b"PK")
    save_file({"lora.down": torch.zeros(1)}, tmp_path / "lora.safetensors")
    permission = {"allow_pickle": True, "sha256": "0" * 64}

    assert "cannot be read as safetensors" in described_problem(tmp_path / "lfs.safetensors")
    assert "cannot be read as a checkpoint" in described_problem(tmp_path / "short.ckpt", **permission)
    assert "not a whole Stable Diffusion checkpoint" in described_problem(tmp_path / "lora.safetensors")


def test_a_checkpoint_that_holds_itself_is_refused(tmp_path):
    endless = {}
    endless["state_dict"] = endless
    torch.save(endless, tmp_path / "endless.ckpt")
    permission = {"allow_pickle": True, "sha256": "0" * 64}

    assert "cannot be read as a checkpoint" in described_problem(tmp_path / "endless.ckpt", **permission)


@pytest.mark.parametrize("part", ["decoder.conv_out", "final_layer_norm", "out.2"])
def test_a_checkpoint_that_lacks_a_part_is_refused(checkpoints, tmp_path, part):
    place, folders = checkpoints
    tensors = load_file(place / "sd1.safetensors")
    save_file({name: one for name, one in tensors.items() if part not in name}, tmp_path / "x.safetensors")

    ((code, message),) = refused(tmp_path / "x.safetensors", config=str(folders["sd1"]))
    assert code == "LM1206"
    assert "missing" in message


@pytest.mark.parametrize("name", CONFIGS)
def test_the_configs_that_ship_are_those_of_the_real_models(name):
    config = Path(str(resources.files("actors.models") / "configs" / name))
    with torch.device("meta"):
        unet = diffusers.UNet2DConditionModel.from_config(read_json(config / "unet" / "config.json"))
        vae = diffusers.AutoencoderKL.from_config(read_json(config / "vae" / "config.json"))
        text = transformers.CLIPTextModel(transformers.CLIPTextConfig.from_pretrained(str(config / "text_encoder")))
    scheduler = read_json(config / "scheduler" / "scheduler_config.json")
    index = read_json(config / "model_index.json")

    millions = [sum(p.numel() for p in part.parameters()) // 10**6 for part in (unet, vae, text)]
    assert millions == {"sd1": [859, 83, 123], "sd2": [865, 83, 340], "sdxl": [2567, 83, 123]}[name.split("-")[0]]
    assert scheduler["prediction_type"] == ("v_prediction" if name.endswith("-v") else "epsilon")
    assert index["scheduler"][1] == scheduler["_class_name"]
    assert {part for part, entry in index.items() if isinstance(entry, list) and entry[0]} == {
        path.name for path in config.iterdir() if path.is_dir()
    }


# Additions


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
