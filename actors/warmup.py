"""Warm-up: one batch that nobody sees, so that a compiled model is compiled before its worker is said to be ready."""

import logging
import time

import numpy as np

from actors.batch_sizes import BatchSizes
from actors.device import Device
from actors.errors import InputError, LightmillError, OutOfMemory, Problem
from actors.ingredients import InputImages
from actors.models.model import ModelInfo
from actors.models.tasks import NEEDS, UPSCALE
from actors.records import Batch, ImageRequest, Prompt

_log = logging.getLogger(__name__)

STEPS = 2


def warm_up(device: Device, sizes: BatchSizes) -> None:
    """Make such a batch, of the size that most have. Raises `InputError` (LM1225) where it cannot be compiled."""
    began = time.monotonic()
    request = blank_request(device.info)
    try:
        device.rehearse(Batch((request,), sizes.of(request)))
    except OutOfMemory:
        pass  # of which the first batch of a shard makes less
    except LightmillError:
        raise
    except Exception as error:
        message = f"{device.info.model} cannot be compiled on {device.info.device}: {error}"[:500]
        help_ = "see that the machine has a compiler (gcc; on a CPU, g++), or leave `compile` out"
        raise InputError(Problem("LM1225", message, where="compile", help=help_)) from error
    _log.info("compiled and warmed up in %.1f s", time.monotonic() - began)


def blank_request(info: ModelInfo) -> ImageRequest:
    """An image of the model's own size, from no prompt, and grey inputs where it takes any."""
    return ImageRequest(
        prompt=Prompt(source_row=0, id="0", text=""),
        image_index=0,
        lane=0,
        negative_prompt=info.negative_prompt,
        seed=0,
        seed_rejected=None,
        width=info.width,
        height=info.height,
        num_inference_steps=info.num_inference_steps if info.strength else min(STEPS, info.num_inference_steps),
        guidance_scale=info.guidance_scale,
        strength=info.strength,
        noise_level=info.noise_level,
        input_images=_grey(info) if NEEDS[info.task] else None,
    )


def _grey(info: ModelInfo) -> InputImages:
    scale = UPSCALE if info.task == "upscale" else 1
    height, width = info.height // scale, info.width // scale
    mask = np.full((height, width), 255, np.uint8) if "mask_image" in NEEDS[info.task] else None
    return InputImages(image=np.full((height, width, 3), 128, np.uint8), mask_image=mask, sha256={})
