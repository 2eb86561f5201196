"""Accelerator: what the device under a pipeline can, and when it has no more room or is lost."""

import logging
import os
import threading
from typing import NoReturn

import diffusers
import torch

from actors.errors import InputError, Problem
from actors.machine import gpus, has_driver
from actors.models.card import ModelCard

_log = logging.getLogger(__name__)
OF_ITS_SHARE = 0.95
"""Of its part of a GPU's memory a worker's tensors may have: CUDA itself takes half a GB for each process."""
LAST_WORD_SECONDS = 5.0
DEVICE_LOST = 70
"""Exit status of a worker whose device can no longer be used (`EX_SOFTWARE` of sysexits.h)."""


def chosen(name: str | None, share: float) -> torch.device:
    """The one of this name; without a name a GPU where torch has one. `share`: of a GPU, that this worker was given.

    Raises `InputError` (LM1212) where torch cannot use it: on the CPU an image takes a hundred times as long, and is
    another one than with the other workers.
    """
    if name is None and share and not torch.cuda.is_available() and has_driver():
        there = gpus()
        raise InputError(
            Problem(
                "LM1212",
                f"torch {torch.__version__} (CUDA {torch.version.cuda}) cannot use the GPU that this worker was given",
                value=f"{there[0].name}, driver {there[0].driver}" if there else "`nvidia-smi` does not answer",
                help="install a driver for that CUDA (580 or newer for 13), and see what `nvidia-smi` says",
            )
        )
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


def take_share(share: float) -> None:
    """Bound this process to its part of the memory of its GPU: Ray only counts who is where."""
    torch.cuda.set_per_process_memory_fraction(share * OF_ITS_SHARE if share < 1 else 1.0)


def best_dtype(device: torch.device, card: ModelCard | None = None) -> str:
    """What a job that names no `dtype` gets: half as many bits as it can without other pictures."""
    if device.type != "cuda":
        return "float32"
    # GPUs before Ampere only emulate it, many times slower; by default torch calls that support, too.
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return "bfloat16"
    # Its numbers end at 65,504, which some models overflow: black pictures.
    is_safe = card is not None and card.dtype is not None and card.dtype.float16
    return "float16" if is_safe else "float32"


def place(pipeline: diffusers.DiffusionPipeline, device: torch.device, share: float) -> diffusers.DiffusionPipeline:
    """The pipeline on the device, of which `share` is this worker's. Raises `InputError` (LM1205) where its weights
    have no room there."""
    try:
        return pipeline.to(device)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        modules = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
        weights = sum(p.numel() * p.element_size() for module in modules for p in module.parameters())
        room = share * torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else _memory()
        raise InputError(
            Problem(
                "LM1205",
                f"the weights of {type(pipeline).__name__} take {weights / 2**30:.1f} GiB, and {device} has "
                f"{room / 2**30:.1f} GiB in all for a worker",
                help="use `offload_text_encoders: true`, `dtype: bfloat16`, a smaller model, or larger GPUs",
            )
        ) from error


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def lose_device(error: RuntimeError) -> NoReturn:
    """End the process, as whoever kills it would: the driver knows which images were on the device.

    A CUDA error (an assertion, an illegal address, a fallen bus) stays with the process: every later batch would fail
    as well, and be blamed for it.
    """
    _log.critical("the device is lost", exc_info=error)
    put = threading.Thread(target=_flush, daemon=True)
    put.start()
    put.join(LAST_WORD_SECONDS)
    os._exit(DEVICE_LOST)


def _flush() -> None:
    """Let what was logged come to the output; nobody will ask for this process's stderr."""
    for handler in logging.getLogger("actors").handlers:
        handler.flush()


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether there was no room, however it was said."""
    # cuBLAS, cuDNN (which tries one engine after the other) and the CPU's allocator say it in a plain RuntimeError.
    said = str(error)
    cudnn = ("STATUS_ALLOC_FAILED", "valid cuDNN algorithm", "unable to find an engine")
    signs = ("out of memory", "can't allocate memory", *cudnn)
    return isinstance(error, torch.OutOfMemoryError) or any(sign in said for sign in signs)
