"""Offloading: text encoders that lie in the machine's memory, and on the GPU only while they work.

A text encoder may be the largest part of a model (T5: 9.5 GB in half precision) and works for a hundredth of the time.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import diffusers
import torch

from actors.errors import InputError, Problem


@contextmanager
def offloaded_text_encoders(pipeline: diffusers.DiffusionPipeline, device: torch.device) -> Iterator[None]:
    """While this lasts the pipeline is put on the device, all but its text encoders: these are copied there each time
    that prompts are encoded. Raises `InputError` (LM1225) where there are none.

    The copies are ordered with all else on the device: nothing waits for them, and what comes next has their room.
    """
    encoders = {
        name: part
        for name, part in pipeline.components.items()
        if name.startswith("text_encoder") and isinstance(part, torch.nn.Module)
    }
    own = getattr(pipeline, "encode_prompt", None)
    if own is None or not encoders:
        message = f"{type(pipeline).__name__} has no text encoders that could lie elsewhere"
        raise InputError(Problem("LM1225", message, where="offload_text_encoders", help="leave it out"))
    for name in encoders:
        setattr(pipeline, name, None)
    yield
    for name, encoder in encoders.items():
        setattr(pipeline, name, encoder)
    weights = [tensor for encoder in encoders.values() for tensor in (*encoder.parameters(), *encoder.buffers())]
    for tensor in weights if device.type == "cuda" else ():
        tensor.data = tensor.data.pin_memory()  # from where a GPU copies several times as fast
    lying = [tensor.data for tensor in weights]

    @functools.wraps(own)
    @torch.inference_mode(mode=False)  # in which weights could not be exchanged; it turns gradients on
    @torch.no_grad()
    def encode_prompt(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  as the pipeline has it
        for tensor, data in zip(weights, lying, strict=True):
            tensor.data = data.to(device, non_blocking=True, copy=True)
        try:
            return own(*args, **kwargs)
        finally:
            for tensor, data in zip(weights, lying, strict=True):
                tensor.data = data

    pipeline.encode_prompt = encode_prompt
