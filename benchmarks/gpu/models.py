"""Models at their true size, with random weights, as diffusers saves them; and the same in miniature, for a rehearsal.

Random numbers take as long to multiply as trained ones. They keep a signal's variance, so that no picture is NaN.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

from actors.models.configs import assemble
from actors.models.folder import read_json
from actors.models.tiny import tiny_folder

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "actors" / "models" / "configs"
# Tokenizers of few words, and models in miniature: those that the tests have.
sys.path.insert(0, str(ROOT / "tests"))
EMBEDDINGS = ("token_embedding", "position_embedding", "embed_tokens", "shared")
"""A row of them is looked up, not summed over."""


@dataclass(frozen=True, slots=True)
class Model:
    """One line of the table."""

    name: str
    weights: str
    """Two lines may share them."""
    side: int
    steps: int
    guidance: float
    batches: tuple[int, ...]
    """To be tried, the smallest first."""
    rivals: tuple[str, ...] = ()
    """What a goal compares it with, beside the pure loop."""


MODELS = (
    Model("SDXL", "sdxl", 1024, 30, 5.0, (1, 2, 4, 8, 16), ("save", "ray")),
    Model("SDXL, 4 steps", "sdxl", 1024, 4, 0.0, (1, 2, 4, 8, 16), ("save", "ray")),
    Model("SD 1.5", "sd1", 512, 25, 7.5, (1, 4, 8, 16, 32), ("save",)),
    Model("SD 2.1 base", "sd2-base", 512, 25, 7.5, (1, 4, 8, 16, 32)),
    Model("SD 2.1", "sd2-v", 768, 25, 7.5, (1, 4, 8, 16)),
    Model("SD 3.5 medium", "sd3-medium", 1024, 28, 4.5, (1, 2, 4, 8)),
)
SMALL_SIDE, SMALL_STEPS, SMALL_BATCHES = 64, 3, (1, 2)


def save(weights: str, folder: Path, device: str, *, tiny: bool) -> Path:
    """The pipeline with these weights."""
    torch.manual_seed(0)
    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    if weights == "sd3-medium":
        parts = _sd3_in_small() if tiny else _sd3(device)
        diffusers.StableDiffusion3Pipeline(**parts).save_pretrained(str(folder))
        return folder
    if tiny:
        from miniatures import unets

        config = unets.save_configs(folder.parent / f"{weights}-configs") / weights
        kind = getattr(diffusers, read_json(config / "model_index.json")["_class_name"])
        checker = {} if weights.startswith("sdxl") else unets.WITHOUT_CHECKER
        kind(**unets.parts(config), **checker).save_pretrained(str(folder))
        return folder
    assemble(CONFIGS / weights, tiny_folder() / "tokenizer", folder)
    for name, entry in read_json(folder / "model_index.json").items():
        if not name.startswith(("unet", "vae", "text_encoder")) or entry[0] is None:
            continue
        kind, config = _kind(entry), read_json(folder / name / "config.json")
        made = kind.from_config if hasattr(kind, "from_config") and entry[0] == "diffusers" else _transformer(kind)
        _built(lambda made=made, config=config: made(config), device).save_pretrained(str(folder / name))
    return folder


def _kind(entry: list[str]) -> Any:  # noqa: ANN401 - a class of either library
    return getattr({"diffusers": diffusers, "transformers": transformers}[entry[0]], entry[1])


def _transformer(kind: Any) -> Callable[[Mapping[str, Any]], torch.nn.Module]:  # noqa: ANN401
    return lambda config: kind(kind.config_class(**{n: v for n, v in config.items() if n != "model_type"}))


def _built(make: Callable[[], torch.nn.Module], device: str) -> torch.nn.Module:
    """One part in bfloat16, filled where arithmetic is fast, and put aside in host memory."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            part = make()
    finally:
        torch.set_default_dtype(before)
    _fill(part)
    return part.to("cpu", torch.bfloat16).eval()


@torch.no_grad()
def _fill(part: torch.nn.Module) -> None:
    """Normal weights that keep a signal's variance; biases of zero, norms of one."""
    for name, parameter in part.named_parameters():
        if parameter.ndim > 1:
            summed = 1 if any(word in name for word in EMBEDDINGS) else parameter[0].numel()
            parameter.normal_(0, summed**-0.5)
        else:
            parameter.fill_(1 if name.endswith("weight") else 0)


def _sd3_in_small() -> dict[str, Any]:
    from miniatures import dits

    return dits.stable_diffusion_3(dual_attention_layers=(0,))


def _sd3(device: str) -> dict[str, Any]:
    """Stable Diffusion 3.5 medium: its parts by the configs that were published with it."""
    parts = {name: part for name, part in _sd3_in_small().items() if name.startswith(("tokenizer", "scheduler"))}
    clip = {"vocab_size": 49408, "bos_token_id": 0, "eos_token_id": 2}
    small = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    large = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}
    clip_l = transformers.CLIPTextConfig(**clip, **small, projection_dim=768)
    clip_g = transformers.CLIPTextConfig(**clip, **large, projection_dim=1280, hidden_act="gelu")
    t5 = transformers.T5Config(
        vocab_size=32128,
        d_model=4096,
        d_kv=64,
        d_ff=10240,
        num_layers=24,
        num_heads=64,
        feed_forward_proj="gated-gelu",
    )
    makers: dict[str, Callable[[], torch.nn.Module]] = {
        "text_encoder": lambda: transformers.CLIPTextModelWithProjection(clip_l),
        "text_encoder_2": lambda: transformers.CLIPTextModelWithProjection(clip_g),
        "text_encoder_3": lambda: transformers.T5EncoderModel(t5),
        "transformer": _mmdit,
        "vae": _vae_of_16_channels,
    }
    return parts | {name: _built(make, device) for name, make in makers.items()}


def _mmdit() -> torch.nn.Module:
    transformer: torch.nn.Module = diffusers.SD3Transformer2DModel(
        sample_size=128,
        patch_size=2,
        in_channels=16,
        out_channels=16,
        num_layers=24,
        attention_head_dim=64,
        num_attention_heads=24,
        joint_attention_dim=4096,
        caption_projection_dim=1536,
        pooled_projection_dim=2048,
        pos_embed_max_size=384,
        dual_attention_layers=tuple(range(13)),
        qk_norm="rms_norm",
    )
    return transformer


def _vae_of_16_channels() -> torch.nn.Module:
    vae: torch.nn.Module = diffusers.AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=16,
        sample_size=1024,
        scaling_factor=1.5305,
        shift_factor=0.0609,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    return vae
