"""How well a pipeline keeps to its prompts: drawn from held-out captions, measured from pixels."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path

import diffusers
import numpy as np
import torch
from PIL import Image

from training.canvas import SIDE
from training.captions import Scene, caption, held_out_scenes
from training.measure import Verdict, judge

STEPS = 20
GUIDANCE = 3.0
_BATCH = 25
_GAP = 4


def paint(
    pipeline: diffusers.StableDiffusionPipeline,
    prompts: Sequence[str],
    *,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
    seed: int = 0,
) -> np.ndarray:
    """A picture of each prompt, from noise that follows from the seed and its place among them."""
    pipeline.set_progress_bar_config(disable=True)
    parts = []
    for start in range(0, len(prompts), _BATCH):
        batch = list(prompts[start : start + _BATCH])
        noise = [torch.Generator().manual_seed(seed * 100_003 + start + place) for place in range(len(batch))]
        output = pipeline(
            batch,
            height=SIDE,
            width=SIDE,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=noise,
            output_type="np",
        )
        parts.append((output.images * 255).round().astype(np.uint8))
    return np.concatenate(parts)


def verdicts(
    pipeline: diffusers.StableDiffusionPipeline,
    scenes: Sequence[Scene],
    *,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
    seed: int = 0,
) -> list[Verdict]:
    """What is right in the pictures of these scenes."""
    pictures = paint(pipeline, [caption(scene) for scene in scenes], steps=steps, guidance=guidance, seed=seed)
    return [judge(picture.astype(np.float32), scene) for picture, scene in zip(pictures, scenes, strict=True)]


def report(
    pipeline: diffusers.StableDiffusionPipeline,
    counts: dict[str, int],
    *,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
) -> Iterator[str]:
    """For each kind of caption, how many of its held-out pictures keep each claim."""
    for kind, count in counts.items():
        begun = time.monotonic()
        found = verdicts(pipeline, held_out_scenes(kind, count), steps=steps, guidance=guidance)
        rates = {field.name: sum(getattr(verdict, field.name) for verdict in found) for field in fields(Verdict)}
        rates["everything"] = sum(verdict.right for verdict in found)
        told = ", ".join(f"{name} {100 * number / count:.1f}%" for name, number in rates.items())
        yield f"{kind} ({count}): {told}; {(time.monotonic() - begun) / count:.3f} s a picture"


def grid(pictures: np.ndarray, path: Path, *, columns: int = 8, zoom: int = 2) -> None:
    """The pictures side by side, for eyes."""
    step = SIDE * zoom + _GAP
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * step - _GAP, rows * step - _GAP), "white")
    for number, picture in enumerate(pictures):
        row, column = divmod(number, columns)
        image = Image.fromarray(picture).resize((SIDE * zoom, SIDE * zoom), Image.Resampling.BICUBIC)
        sheet.paste(image, (column * step, row * step))
    sheet.save(path)
