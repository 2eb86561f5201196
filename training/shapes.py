"""Shapes: the outline of a thing, and what it is painted with."""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from training.canvas import PALETTE, SCALE, SIDE, Point, scaled
from training.captions import Thing


@dataclass(frozen=True)
class Placed:
    """A thing with its middle and its radius, in pixels."""

    thing: Thing
    x: float
    y: float
    radius: float


def shape_mask(shape: str, x: float, y: float, radius: float) -> np.ndarray:
    """How much of each pixel a shape covers, from 0 to 1."""
    mask = mask_of(Placed(Thing(shape, "black"), x, y, radius))
    return np.asarray(mask.reduce(SCALE), dtype=np.float32) / 255


def accent(colour: str, background: str) -> str:
    """The colour of a textured thing's stripes or dots: whichever differs from the thing and from what is behind."""
    return next(name for name in ("white", "black", "grey") if name not in {colour, background})


def mask_of(placed: Placed) -> Image.Image:
    """Where the thing is, as large as a canvas."""
    mask = Image.new("L", (SIDE * SCALE, SIDE * SCALE))
    pen = ImageDraw.Draw(mask)
    x, y, r = placed.x, placed.y, placed.radius
    shape = placed.thing.shape
    if shape in {"circle", "ring"}:
        pen.ellipse(scaled([(x - r, y - r), (x + r, y + r)]), fill=255)
        if shape == "ring":
            hole = 0.55 * r
            pen.ellipse(scaled([(x - hole, y - hole), (x + hole, y + hole)]), fill=0)
    else:
        pen.polygon(scaled([(x + r * u, y + r * v) for u, v in _OUTLINES[shape]]), fill=255)
    return mask


def _star() -> list[Point]:
    reach = [(1.12 if turn % 2 == 0 else 0.47) for turn in range(10)]
    return [(reach[t] * math.sin(math.pi * t / 5), 0.08 - reach[t] * math.cos(math.pi * t / 5)) for t in range(10)]


def _heart() -> list[Point]:
    turns = np.linspace(0, 2 * math.pi, 48, endpoint=False)
    x = np.sin(turns) ** 3
    y = -(13 * np.cos(turns) - 5 * np.cos(2 * turns) - 2 * np.cos(3 * turns) - np.cos(4 * turns)) / 16
    return [(1.05 * a, 1.05 * b - 0.08) for a, b in zip(x.tolist(), y.tolist(), strict=True)]


def _cross(arm: float) -> list[Point]:
    return [
        (-arm, -1), (arm, -1), (arm, -arm), (1, -arm), (1, arm), (arm, arm),
        (arm, 1), (-arm, 1), (-arm, arm), (-1, arm), (-1, -arm), (-arm, -arm),
    ]  # fmt: skip


_OUTLINES: dict[str, list[Point]] = {
    "square": [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
    "triangle": [(0, -1), (1.08, 0.87), (-1.08, 0.87)],
    "diamond": [(0, -1.12), (0.95, 0), (0, 1.12), (-0.95, 0)],
    "star": _star(),
    "heart": _heart(),
    "cross": _cross(0.36),
}


def paint_of(placed: Placed, background: str) -> Image.Image:
    """What a thing is painted with: its colour, striped or dotted with another where it is not plain."""
    thing = placed.thing
    size = SIDE * SCALE
    if not thing.texture:
        return Image.new("RGB", (size, size), PALETTE[thing.colour])
    steps = (np.arange(size) + 0.5) / SCALE
    if thing.texture == "striped":
        marked = np.broadcast_to(((steps[:, None] - placed.y) % 8 + 8) % 8 < 2.6, (size, size))
    else:
        down = ((steps[:, None] - placed.y + 3.5) % 7) - 3.5
        across = ((steps[None, :] - placed.x + 3.5) % 7) - 3.5
        marked = down**2 + across**2 < 1.7**2
    ink, paper = (np.array(PALETTE[name], dtype=np.uint8) for name in (accent(thing.colour, background), thing.colour))
    return Image.fromarray(np.where(marked[..., None], ink, paper))
