"""Offloading: text encoders that lie in the machine's memory, and on the GPU only while they work.

A text encoder may be the largest part of a model (T5: 9.5 GB in half precision) and works for a hundredth of the time.
Without it a smaller GPU holds the model, or a larger batch fits.
"""

import functools
from typing import Any

import diffusers
import torch
from diffusers.hooks import apply_group_offloading


def offload_text_encoders(pipeline: diffusers.DiffusionPipeline, device: torch.device) -> None:
    """Before the pipeline is put on the device: layer by layer its text encoders go there by themselves, each copied
    while the one before computes.

    Layers are those that hold weights, as some pipelines also ask a text encoder's last one alone.
    """
    # Without record_stream the host would wait at each layer, also for the batch that is still being denoised.
    streams = {"use_stream": True, "record_stream": True} if device.type == "cuda" else {}
    for name, part in pipeline.components.items():
        if name.startswith("text_encoder") and isinstance(part, torch.nn.Module):
            apply_group_offloading(part, onload_device=device, offload_type="leaf_level", **streams)
    own = pipeline.encode_prompt

    @functools.wraps(own)
    @torch.no_grad()
    @torch.inference_mode(mode=False)  # in which weights could not be exchanged
    def encode_prompt(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  as the pipeline has it
        return own(*args, **kwargs)

    pipeline.encode_prompt = encode_prompt
