"""Stable Diffusion 1, 2 and XL in small: the configs that ship, with few channels and layers, and all else as it is.

The widths of the text are the true ones, since they tell the architectures apart; so are the number of blocks, with it
the VAE's factor, the channels that go in, and the schedulers.
"""

import functools
import json
import shutil
from importlib import resources
from pathlib import Path

import diffusers
import transformers

from actors.models.folder import read_json
from miniatures import tokenizers
from miniatures.weights import lively

SHIPPED = Path(str(resources.files("actors.models") / "configs"))


def save_configs(folder):
    """The configs that ship, in small, under the same names and without vocabularies as well."""
    shutil.copytree(SHIPPED, folder)
    for path in folder.glob("*/*/config.json"):
        path.write_text(json.dumps(SMALL[read_json(path).get("_class_name", "CLIPTextConfig")](read_json(path))))
    return folder


def small_unet(config):
    """As few channels as there can be, of which each head has 8."""
    times = config["block_out_channels"][0] // 8
    heads = config["attention_head_dim"]
    small = {
        "block_out_channels": [channels // times for channels in config["block_out_channels"]],
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "attention_head_dim": [-(-number // 5) for number in heads] if isinstance(heads, list) else 2,
        "sample_size": 8,
    }
    if "addition_time_embed_dim" in config:
        pooled = config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"]
        small["addition_time_embed_dim"] = 8
        small["projection_class_embeddings_input_dim"] = pooled + 6 * 8
        small["transformer_layers_per_block"] = [min(2, n) for n in config["transformer_layers_per_block"]]
    return {**config, **small}


def small_vae(config):
    """Four channels at first."""
    times = config["block_out_channels"][0] // 4
    channels = [channels // times for channels in config["block_out_channels"]]
    return {**config, "block_out_channels": channels, "layers_per_block": 1, "norm_num_groups": 4, "sample_size": 64}


def small_clip(config):
    """Two layers that know few words."""
    return {**config, "vocab_size": tokenizers.CLIP_SIZE, "intermediate_size": 64, "num_hidden_layers": 2}


SMALL = {"UNet2DConditionModel": small_unet, "AutoencoderKL": small_vae, "CLIPTextConfig": small_clip}


def parts(config, **unet):
    """All that the pipeline of a small config is made of, with other settings of its UNet where they are given."""
    made = {
        "vae": vae(read_json(config / "vae" / "config.json")),
        "unet": lively(
            diffusers.UNet2DConditionModel.from_config({**read_json(config / "unet" / "config.json"), **unet})
        ),
        "scheduler": _scheduler(read_json(config / "scheduler" / "scheduler_config.json")),
    }
    for folder in config.glob("tokenizer*"):
        made[folder.name] = tokenizers.clip(read_json(folder / "tokenizer_config.json"))
    for folder in config.glob("text_encoder*"):
        made[folder.name] = _clip(folder)
    return made


WITHOUT_CHECKER = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


def vae(config, seed=0):
    return lively(diffusers.AutoencoderKL.from_config(config), seed)


@functools.cache
def _clip(folder):
    config = read_json(folder / "config.json")
    kind = getattr(transformers, config["architectures"][0])
    return lively(kind(transformers.CLIPTextConfig.from_dict(config)))


def _scheduler(config):
    return getattr(diffusers, config["_class_name"]).from_config(config)


def upscaler(config):
    """The x4 upscaler: a text encoder of Stable Diffusion 2, a UNet that is told the noise, a VAE of factor 4."""
    unet = {
        **read_json(config / "unet" / "config.json"),
        "in_channels": 7,
        "num_class_embeds": 1000,
        "block_out_channels": [256, 512, 512, 1024],
        "attention_head_dim": 8,
        "down_block_types": ["DownBlock2D", *["CrossAttnDownBlock2D"] * 3],
        "up_block_types": [*["CrossAttnUpBlock2D"] * 3, "UpBlock2D"],
        "only_cross_attention": [True, True, True, False],
    }
    f4 = {
        **read_json(config / "vae" / "config.json"),
        "block_out_channels": [128, 256, 512],
        "down_block_types": ["DownEncoderBlock2D"] * 3,
        "up_block_types": ["UpDecoderBlock2D"] * 3,
        "scaling_factor": 0.08333,
    }
    betas = {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "scaled_linear"}
    return {
        **parts(config, **small_unet(unet)),
        "vae": vae(small_vae(f4)),
        "low_res_scheduler": diffusers.DDPMScheduler(**betas),
        "max_noise_level": 350,
    }


def depth_estimator():
    """A hybrid DPT, as that of Stable Diffusion 2, and what prepares its pictures."""
    backbone = {
        "model_type": "bit",
        "global_padding": "same",
        "layer_type": "bottleneck",
        "depths": [1, 1, 1],
        "out_features": ["stage1", "stage2", "stage3"],
        "embedding_dynamic_padding": True,
        "embedding_size": 8,
        "hidden_sizes": [8, 16, 32, 32],
        "num_groups": 2,
    }
    config = transformers.DPTConfig(
        is_hybrid=True,
        backbone_config=backbone,
        backbone_featmap_shape=[1, 32, 2, 2],
        neck_hidden_sizes=[8, 16, 16, 16],
        image_size=32,
        patch_size=16,
        hidden_size=16,
        num_hidden_layers=4,
        backbone_out_indices=(0, 1, 2, 3),
        num_attention_heads=2,
        intermediate_size=16,
        fusion_hidden_size=8,
    )
    size = {"height": 32, "width": 32}
    processor = transformers.DPTImageProcessorPil(size=size, keep_aspect_ratio=False, ensure_multiple_of=1)
    return {"depth_estimator": lively(transformers.DPTForDepthEstimation(config)), "feature_extractor": processor}
