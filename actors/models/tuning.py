"""Tuning: how a pipeline is run on its device, as fast as it goes with the same pictures but for rounding.

On a CPU nothing is done, so that pictures made there stay what they are to the byte.
"""

from contextlib import ExitStack
from typing import Any

import diffusers
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

CUDNN_FIRST = 9
"""Compute capability, Hopper, from which cuDNN's attention is the fastest: 408 against flash attention's 321 TFLOP/s at
64 channels a head, 609 against 368 at 128 (forward, 4,096 tokens; figures of the paper on FlashAttention-3)."""
CUDNN_ORDER = [
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]
"""What cuDNN does not take, such as 40 channels a head in float32, goes to the next that does."""
for_good = ExitStack()
"""Settings of torch that hold for as long as the process lives."""


def tune(pipeline: diffusers.DiffusionPipeline, device: torch.device) -> dict[str, Any]:
    """Set what the device is faster with, and tell what it was, for the recipe."""
    if device.type != "cuda":
        return {}
    said: dict[str, Any] = {}
    if networks := _convolutional(pipeline):
        for network in networks.values():
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch leaves it out
        said["channels_last"] = sorted(networks)
    if torch.cuda.get_device_capability(device)[0] >= CUDNN_FIRST:
        for_good.enter_context(sdpa_kernel(CUDNN_ORDER, set_priority=True))
        said["attention"] = "cudnn"
    if tf32 := _tf32(pipeline):
        said["tf32"] = tf32
    return {"tuning": said} if said else {}


def _convolutional(pipeline: diffusers.DiffusionPipeline) -> dict[str, torch.nn.Module]:
    """UNet and VAE, by name: what convolves in two dimensions. A VAE that was made for films does in three."""
    found = {name: part for name in ("unet", "vae") if (part := getattr(pipeline, name, None)) is not None}
    flat = {name: {parameter.ndim for parameter in part.parameters()} for name, part in found.items()}
    return {name: part for name, part in found.items() if 4 in flat[name] and 5 not in flat[name]}


def _tf32(pipeline: diffusers.DiffusionPipeline) -> list[str]:
    """What torch computes with 10 bits of the 23 that a float32 has, where there is one. Nothing here changes that."""
    allowed = {"convolutions": torch.backends.cudnn.allow_tf32, "products": torch.backends.cuda.matmul.allow_tf32}
    modules = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    has_any = any(parameter.dtype == torch.float32 for module in modules for parameter in module.parameters())
    return [name for name, is_allowed in allowed.items() if is_allowed and has_any]
