"""A model in a single file: what it is, and that it paints as the folder of the same weights."""

import json
from importlib import resources
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from actors.errors import InputError
from actors.models.configs import CONFIGS
from actors.models.facts import describe_model
from actors.models.folder import read_json
from actors.models.settings import ModelSettings
from actors.models.tiny import tiny_folder
from actors.models.trust import weights_sha256
from lanes import make_batch
from painting import REQUESTS, load, made, own_pipeline, painted, recipe_of, refused, trusted
from pipelines import copy_of_tiny, save_v2


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
