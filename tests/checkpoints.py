"""Checkpoints in the layout of the original code, made of small diffusers folders."""

import re

import diffusers
import torch
from safetensors.torch import save_file

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
VAE_NAMES = {
    "conv_shortcut": "nin_shortcut",
    "conv_norm_out": "norm_out",
    "mid_block.resnets.0": "mid.block_1",
    "mid_block.resnets.1": "mid.block_2",
    "mid_block.attentions.0": "mid.attn_1",
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}
OPEN_CLIP = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


def save_checkpoint(folder, path, **more):
    """The pipeline of a folder as one file: .ckpt (a pickle) or .safetensors. `more` are other entries of it."""
    pipeline = diffusers.DiffusionPipeline.from_pretrained(str(folder), local_files_only=True)
    tensors = {
        **_prefixed("model.diffusion_model.", ldm_unet(pipeline.unet)),
        **_prefixed("first_stage_model.", ldm_vae(pipeline.vae)),
        **_text(pipeline),
        **more,
    }
    if path.suffix == ".ckpt":
        torch.save({"state_dict": tensors, "global_step": 1000}, path)
    else:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return path


def ldm_unet(unet):
    """The tensors of a UNet under their first names."""
    layers = unet.config.layers_per_block
    blocks = len(unet.config.block_out_channels)
    names = {"conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2"}
    names |= {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2"}
    names |= {"add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2"}
    names |= {"class_embedding": "label_emb"}  # of the upscaler
    names |= {"mid_block.resnets.0": "middle_block.0", "mid_block.resnets.1": "middle_block.2"}
    names |= {"mid_block.attentions.0": "middle_block.1"}
    for block in range(blocks):
        for layer in range(layers):
            at = 1 + block * (layers + 1) + layer
            names[f"down_blocks.{block}.resnets.{layer}"] = f"input_blocks.{at}.0"
            names[f"down_blocks.{block}.attentions.{layer}"] = f"input_blocks.{at}.1"
        names[f"down_blocks.{block}.downsamplers.0.conv"] = f"input_blocks.{(block + 1) * (layers + 1)}.0.op"
        for layer in range(layers + 1):
            at = block * (layers + 1) + layer
            names[f"up_blocks.{block}.resnets.{layer}"] = f"output_blocks.{at}.0"
            names[f"up_blocks.{block}.attentions.{layer}"] = f"output_blocks.{at}.1"
        place = 2 if "CrossAttn" in unet.config.up_block_types[block] else 1
        names[f"up_blocks.{block}.upsamplers.0.conv"] = f"output_blocks.{block * (layers + 1) + layers}.{place}.conv"
    return {_renamed(_renamed(key, names), RESNET, ".resnets." in key): value for key, value in _tensors(unet)}


def ldm_vae(vae):
    """The tensors of a VAE under their first names."""
    last = len(vae.config.block_out_channels) - 1
    converted = {}
    for name, value in _tensors(vae):
        key = re.sub(r"down_blocks\.(\d+)\.resnets", r"down.\1.block", name)
        key = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", key)
        key = re.sub(r"up_blocks\.(\d+)\.resnets", lambda match: f"up.{last - int(match[1])}.block", key)
        key = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0", lambda match: f"up.{last - int(match[1])}.upsample", key)
        linear = ".attentions." in name and value.ndim == 2
        converted[_renamed(key, VAE_NAMES)] = value[:, :, None, None] if linear else value
    return converted


def _text(pipeline):
    encoders = [getattr(pipeline, name, None) for name in ("text_encoder", "text_encoder_2")]
    if encoders[1] is not None:
        return {
            **_prefixed("conditioner.embedders.0.transformer.text_model.", _clip(encoders[0])),
            **_prefixed("conditioner.embedders.1.model.", _open_clip(encoders[1])),
        }
    if encoders[0].config.hidden_act == "gelu":  # as in Stable Diffusion 2
        return _prefixed("cond_stage_model.model.", _open_clip(encoders[0]))
    return _prefixed("cond_stage_model.transformer.text_model.", _clip(encoders[0]))


def _clip(encoder):
    return {name.removeprefix("text_model."): value for name, value in _tensors(encoder)}


def _open_clip(encoder):
    clip = _clip(encoder)
    converted = {
        "positional_embedding": clip["embeddings.position_embedding.weight"],
        "token_embedding.weight": clip["embeddings.token_embedding.weight"],
        "ln_final.weight": clip["final_layer_norm.weight"],
        "ln_final.bias": clip["final_layer_norm.bias"],
    }
    if "text_projection.weight" in clip:
        converted["text_projection"] = clip["text_projection.weight"].T
    for layer in range(encoder.config.num_hidden_layers):
        own = f"encoder.layers.{layer}."
        theirs = f"transformer.resblocks.{layer}."
        for kind in ("weight", "bias"):
            parts = [clip[f"{own}self_attn.{name}_proj.{kind}"] for name in "qkv"]
            converted[f"{theirs}attn.in_proj_{kind}"] = torch.cat(parts)
            for name, other in OPEN_CLIP.items():
                converted[f"{theirs}{other}.{kind}"] = clip[f"{own}{name}.{kind}"]
    return converted


def _tensors(module):
    return [(name, value.detach().clone()) for name, value in module.state_dict().items() if "position_ids" not in name]


def _renamed(key, names, wanted=True):
    dotted = f".{key}"
    for name, other in names.items() if wanted else ():
        dotted = dotted.replace(f".{name}.", f".{other}.")
    return dotted[1:]


def _prefixed(prefix, tensors):
    return {prefix + name: value for name, value in tensors.items()}
