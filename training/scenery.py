"""Scenery: a house, a boat or the like under a sky."""

import math

import numpy as np

from training.canvas import PALETTE, SIDE, Canvas, Colour
from training.captions import Scene

_SKIES = {"day": (135, 200, 250), "night": (20, 25, 70), "sunset": (250, 150, 90)}
_GROUNDS = {"grass": (85, 175, 65), "snow": (235, 242, 250), "sand": (235, 205, 140), "sea": (30, 110, 185)}
_HORIZON = 42.0
_MOON = (250, 245, 210)
_SUN = (255, 215, 60)
_GLOW = (250, 70, 50)
_WOOD = (105, 65, 35)
_LEAF = (35, 120, 50)
_PANE = (255, 240, 160)


def draw_scenery(scene: Scene, random: np.random.Generator) -> np.ndarray:
    """A picture of something in its surroundings."""
    canvas = Canvas(_SKIES[scene.time])
    _heaven(canvas, scene.time, random)
    horizon = _HORIZON + random.uniform(-2, 2)
    canvas.box(0, horizon, SIDE, SIDE, _GROUNDS[scene.ground])
    if scene.ground == "sea":
        _waves(canvas, horizon, random)
    (thing,) = scene.things
    x = 30 + random.uniform(-5, 5)
    _OBJECTS[thing.shape](canvas, x, horizon + random.uniform(6, 9), PALETTE[thing.colour])
    return canvas.pixels()


def _heaven(canvas: Canvas, time: str, random: np.random.Generator) -> None:
    x, y = 53 + random.uniform(-2, 2), 10 + random.uniform(-2, 2)
    if time == "day":
        canvas.disc(x, y, 6, _SUN)
        canvas.disc(12, 10, 6, PALETTE["white"], height=3)
        canvas.disc(17, 8, 5, PALETTE["white"], height=3)
    elif time == "sunset":
        canvas.disc(54 + random.uniform(-2, 2), 40, 9, _GLOW)
    else:
        canvas.disc(x, y, 6, _MOON)
        canvas.disc(x - 3.5, y - 1.5, 5, _SKIES["night"])
        for star_x, star_y in ((6, 8), (17, 15), (30, 5), (41, 13), (8, 27), (57, 27)):
            canvas.disc(star_x + random.uniform(-1, 1), star_y + random.uniform(-1, 1), 1.1, PALETTE["white"])


def _waves(canvas: Canvas, horizon: float, random: np.random.Generator) -> None:
    crest = (110, 175, 225)
    for row, offset in ((4, 0.0), (10, 8.0), (16, 3.0)):
        for x in range(-16, SIDE, 16):
            left = x + offset + random.uniform(-1, 1)
            canvas.box(left, horizon + row, left + 7, horizon + row + 1.5, crest)


def _house(canvas: Canvas, x: float, foot: float, colour: Colour) -> None:
    canvas.box(x - 13, foot - 18, x + 13, foot, colour)
    canvas.polygon([(x - 17, foot - 18), (x, foot - 32), (x + 17, foot - 18)], _WOOD)
    canvas.box(x + 2, foot - 11, x + 8, foot, _WOOD)
    canvas.box(x - 9, foot - 13, x - 3, foot - 7, _PANE)


def _tree(canvas: Canvas, x: float, foot: float, colour: Colour) -> None:
    canvas.box(x - 2.5, foot - 14, x + 2.5, foot, _WOOD)
    for dx, dy, radius in ((-7, -17, 8), (7, -17, 8), (0, -25, 10)):
        canvas.disc(x + dx, foot + dy, radius, colour)


def _flower(canvas: Canvas, x: float, foot: float, colour: Colour) -> None:
    canvas.box(x - 1.2, foot - 20, x + 1.2, foot, _LEAF)
    canvas.disc(x - 5, foot - 6, 5, _LEAF, height=2.5)
    canvas.disc(x + 5, foot - 6, 5, _LEAF, height=2.5)
    for turn in range(6):
        angle = math.pi / 3 * turn
        canvas.disc(x + 7.5 * math.cos(angle), foot - 22 + 7.5 * math.sin(angle), 4.8, colour)
    canvas.disc(x, foot - 22, 4.5, _SUN if colour != PALETTE["yellow"] else _WOOD)


def _mushroom(canvas: Canvas, x: float, foot: float, colour: Colour) -> None:
    canvas.polygon([(x - 4, foot - 14), (x + 4, foot - 14), (x + 5.5, foot), (x - 5.5, foot)], (240, 225, 200))
    cap = [(x + 16 * math.cos(a), foot - 13 - 15 * math.sin(a)) for a in np.linspace(0, math.pi, 24)]
    canvas.polygon(cap, colour)
    spot = PALETTE["white"] if colour != PALETTE["white"] else PALETTE["red"]
    for dx, dy, radius in ((-8, -18, 2.2), (0, -22, 2.6), (8, -18, 2.2)):
        canvas.disc(x + dx, foot + dy, radius, spot)


def _boat(canvas: Canvas, x: float, foot: float, colour: Colour) -> None:
    hull = [(x - 17, foot - 8), (x + 17, foot - 8), (x + 11, foot + 2), (x - 11, foot + 2)]
    canvas.polygon(hull, _WOOD if colour != PALETTE["brown"] else PALETTE["black"])
    canvas.box(x - 1, foot - 33, x + 1, foot - 8, _WOOD)
    canvas.polygon([(x + 2, foot - 33), (x + 15, foot - 11), (x + 2, foot - 11)], colour)
    canvas.polygon([(x - 2, foot - 30), (x - 12, foot - 11), (x - 2, foot - 11)], colour)


def _balloon(canvas: Canvas, x: float, foot: float, colour: Colour) -> None:
    middle = foot - 28
    canvas.polygon([(x - 10, middle + 7), (x + 10, middle + 7), (x + 3, middle + 18), (x - 3, middle + 18)], colour)
    canvas.disc(x, middle, 13, colour)
    canvas.box(x - 3.5, middle + 19.5, x + 3.5, middle + 25, _WOOD)


_OBJECTS = {
    "house": _house,
    "tree": _tree,
    "flower": _flower,
    "mushroom": _mushroom,
    "boat": _boat,
    "balloon": _balloon,
}
