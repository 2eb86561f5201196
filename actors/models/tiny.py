"""`tiny`: a real StableDiffusionPipeline with random weights, made on the spot, offline, the same on every machine.

It paints soft coloured shapes that depend on prompt and seed as a trained model's pictures do, in some 10 ms each on
one core, so that a first run needs no download and tests go through diffusers itself.
"""

import json
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

import diffusers
import numpy as np
import torch
import transformers

from actors.models.facts import CLIP_TOKENS, TINY_REVISION, TINY_SIDE

_SEED = 5
_VAE_CHANNELS = (8, 16, 16, 16)
_VOCABULARY = 514


def tiny_folder() -> Path:
    """The saved pipeline, made first where this machine has none. Two processes may do so at once."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lightmill"
    folder = cache / f"tiny-{TINY_REVISION}"
    if folder.is_dir():
        return folder
    draft = cache / f"tiny-{TINY_REVISION}.{uuid.uuid4().hex}"
    try:
        save_tiny(draft)
        draft.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def save_tiny(folder: Path) -> None:
    """Make the pipeline and save it there, as diffusers saves any other."""
    folder.mkdir(parents=True)
    tokenizer = _save_tokenizer(folder / "tokenizer")
    text_encoder, unet, vae = _text_encoder(), _unet(), _vae()
    random = np.random.RandomState(_SEED)  # its stream is frozen for ever, unlike that of numpy's newer generators
    _fill(text_encoder, random, _text_gain)
    _fill(unet, random, _unet_gain)
    _fill(vae, random, lambda _: 1.0)
    _smooth(vae)
    pipeline = diffusers.StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=diffusers.DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(str(folder), safe_serialization=True)


def _text_encoder() -> transformers.CLIPTextModel:
    config = transformers.CLIPTextConfig(
        vocab_size=_VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=CLIP_TOKENS,
        bos_token_id=_VOCABULARY - 2,
        eos_token_id=_VOCABULARY - 1,
        pad_token_id=_VOCABULARY - 1,
    )
    return transformers.CLIPTextModel(config).eval()


def _unet() -> diffusers.UNet2DConditionModel:
    return diffusers.UNet2DConditionModel(
        sample_size=TINY_SIDE // 8,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=4,
        norm_num_groups=4,
    ).eval()


def _vae() -> diffusers.AutoencoderKL:
    return diffusers.AutoencoderKL(
        block_out_channels=_VAE_CHANNELS,
        down_block_types=("DownEncoderBlock2D",) * len(_VAE_CHANNELS),
        up_block_types=("UpDecoderBlock2D",) * len(_VAE_CHANNELS),
        latent_channels=4,
        norm_num_groups=4,
        sample_size=TINY_SIDE,
    ).eval()


def _text_gain(name: str) -> float:
    # Positions must not drown the words.
    return 0.3 if "position_embedding" in name else 1.0


def _unet_gain(name: str) -> float:
    # Random cross-attention averages a prompt away; three times as strong, other words give another picture.
    return 3.0 if "attn2" in name else 1.0


@torch.no_grad()
def _fill(module: torch.nn.Module, random: np.random.RandomState, gain: Callable[[str], float]) -> None:
    """Weights that keep a signal's variance, biases of zero, norms of one.

    Uniform, as that takes multiplications only; the logarithms and cosines of a normal distribution differ in the
    last bit from one processor to the next.
    """
    for name, parameter in sorted(module.named_parameters()):
        if parameter.ndim > 1:
            # A row of an embedding is looked up, not summed over.
            fan_in = (
                1 if name.endswith(("token_embedding.weight", "position_embedding.weight")) else parameter[0].numel()
            )
            reach = gain(name) * np.sqrt(3.0 / fan_in)
            values = (random.random_sample(tuple(parameter.shape)) * 2 - 1) * reach
            parameter.copy_(torch.from_numpy(values.astype(np.float32)))
        else:
            parameter.fill_(1.0 if name.endswith("weight") else 0.0)


@torch.no_grad()
def _smooth(vae: torch.nn.Module) -> None:
    """Make the decoder's kernels mostly round blurs: soft shapes instead of noise, which no encoder could compress."""
    blur = torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]) / 6.0
    for name, kernel in vae.named_parameters():
        if name.startswith("decoder") and kernel.ndim == 4 and kernel.shape[-1] == 3:
            kernel.copy_(0.85 * 3.0 * kernel[:, :, 1:2, 1:2] * blur + 0.15 * kernel)
        if name == "decoder.conv_out.weight":
            kernel.mul_(0.65)  # so that few pixels are cut off at black and white


def _save_tokenizer(folder: Path) -> transformers.CLIPTokenizer:
    """CLIP's tokenizer without merges: each byte is a token, so any text has one."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    symbols = {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}
    letters = [symbols[byte] for byte in range(256)]
    vocabulary = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({token: n for n, token in enumerate(vocabulary)}), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": CLIP_TOKENS,
        "bos_token": "<|startoftext|>",
        **dict.fromkeys(("eos_token", "unk_token", "pad_token"), "<|endoftext|>"),
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return transformers.CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)
