"""Drawings of scenes: 64 pixels a side, drawn four times as large and averaged down, so that edges are smooth."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from training.captions import POSITIONS, Scene, Thing

SIDE = 64
PALETTE = {
    "red": (220, 30, 35),
    "orange": (255, 140, 0),
    "yellow": (255, 225, 40),
    "green": (30, 150, 60),
    "cyan": (60, 210, 225),
    "blue": (35, 70, 215),
    "purple": (125, 45, 165),
    "pink": (255, 140, 190),
    "brown": (120, 70, 30),
    "black": (20, 20, 25),
    "grey": (140, 140, 145),
    "white": (250, 250, 250),
}
RADII = {"small": 9.0, "": 14.5, "large": 24.0}

_SCALE = 4
_SKIES = {"day": (135, 200, 250), "night": (20, 25, 70), "sunset": (250, 150, 90)}
_GROUNDS = {"grass": (85, 175, 65), "snow": (235, 242, 250), "sand": (235, 205, 140), "sea": (30, 110, 185)}
_HORIZON = 42.0
_MOON = (250, 245, 210)
_SUN = (255, 215, 60)
_GLOW = (250, 70, 50)
_WOOD = (105, 65, 35)
_LEAF = (35, 120, 50)
_PANE = (255, 240, 160)

Point = tuple[float, float]
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Placed:
    """A thing with its middle and its radius, in pixels."""

    thing: Thing
    x: float
    y: float
    radius: float


class Canvas:
    """A picture in the making. Coordinates are pixels of the finished one."""

    def __init__(self, background: Colour) -> None:
        self._image = Image.new("RGB", (SIDE * _SCALE, SIDE * _SCALE), background)
        self._draw = ImageDraw.Draw(self._image)

    def disc(self, x: float, y: float, radius: float, colour: Colour, *, height: float | None = None) -> None:
        """A filled circle, or an ellipse where `height` is another than the radius."""
        half = radius if height is None else height
        self._draw.ellipse(_scaled([(x - radius, y - half), (x + radius, y + half)]), fill=colour)

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        """A filled rectangle."""
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], colour)

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        """A filled polygon."""
        self._draw.polygon(_scaled(points), fill=colour)

    def stamp(self, mask: Image.Image, paint: Image.Image) -> None:
        """`paint` where the mask is set."""
        self._image.paste(paint, mask=mask)

    def pixels(self) -> np.ndarray:
        """The finished picture: height, width, RGB."""
        return np.asarray(self._image.reduce(_SCALE))


def draw(scene: Scene, random: np.random.Generator) -> np.ndarray:
    """A picture of the scene. What the caption leaves open, chance decides."""
    if scene.kind == "scenery":
        return _scenery(scene, random)
    canvas = Canvas(PALETTE[scene.background])
    for placed in arrange(scene, random):
        canvas.stamp(_mask(placed), _paint(placed, scene.background))
    return canvas.pixels()


def arrange(scene: Scene, random: np.random.Generator) -> list[Placed]:
    """Where the shapes of a scene go, the undermost first."""
    if scene.kind == "pair":
        return _arrange_pair(scene, random)
    if scene.kind == "count":
        return _arrange_count(scene, random)
    (thing,) = scene.things
    radius = RADII[thing.size] * random.uniform(0.93, 1.07)
    across, down = POSITIONS[scene.position]
    step = 30.0 - radius
    x, y = (32 + side * step + random.uniform(-2, 2) for side in (across, down))
    return [Placed(thing, _inside(x, radius), _inside(y, radius), radius)]


def shape_mask(shape: str, x: float, y: float, radius: float) -> np.ndarray:
    """How much of each pixel a shape covers, from 0 to 1."""
    mask = _mask(Placed(Thing(shape, "black"), x, y, radius))
    return np.asarray(mask.reduce(_SCALE), dtype=np.float32) / 255


def accent(colour: str, background: str) -> str:
    """The colour of a textured thing's stripes or dots: whichever differs from the thing and from what is behind."""
    return next(name for name in ("white", "black", "grey") if name not in {colour, background})


def _arrange_pair(scene: Scene, random: np.random.Generator) -> list[Placed]:
    first, second = scene.things
    if scene.relation == "inside":
        outer = random.uniform(24, 27) * (1.1 if second.shape == "diamond" else 1.0)
        inner = random.uniform(7.5, 9)
        x, y = random.uniform(31, 33, 2)
        middle = y + 1 if second.shape == "heart" else y
        return [Placed(second, x, y, outer), Placed(first, x, middle, inner)]
    radii = random.uniform(10.5, 12.5, 2)
    near, far = 16 + random.uniform(-1.5, 1.5), 48 + random.uniform(-1.5, 1.5)
    one, two = (near, far) if scene.relation in {"left of", "above"} else (far, near)
    across = 32 + random.uniform(-5, 5, 2)
    if scene.relation in {"left of", "right of"}:
        return [Placed(first, one, across[0], radii[0]), Placed(second, two, across[1], radii[1])]
    return [Placed(first, across[0], one, radii[0]), Placed(second, across[1], two, radii[1])]


def _arrange_count(scene: Scene, random: np.random.Generator) -> list[Placed]:
    (thing,) = scene.things
    spots: list[Point]
    if scene.number == 2:
        spots, radius = [(17, 32), (47, 32)], random.uniform(10, 12.5)
    elif scene.number == 3:
        spots, radius = [(12, 32), (32, 32), (52, 32)], random.uniform(7, 8)
    else:
        spots, radius = [(18, 18), (46, 18), (18, 46), (46, 46)], random.uniform(9, 10.5)
    sway = 2.0 if scene.number == 4 else 8.0
    shift = random.uniform(-1, 1, (len(spots), 2)) * (1.0, sway)
    return [Placed(thing, x + dx, y + dy, radius) for (x, y), (dx, dy) in zip(spots, shift, strict=True)]


def _scenery(scene: Scene, random: np.random.Generator) -> np.ndarray:
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


def _mask(placed: Placed) -> Image.Image:
    mask = Image.new("L", (SIDE * _SCALE, SIDE * _SCALE))
    pen = ImageDraw.Draw(mask)
    x, y, r = placed.x, placed.y, placed.radius
    shape = placed.thing.shape
    if shape in {"circle", "ring"}:
        pen.ellipse(_scaled([(x - r, y - r), (x + r, y + r)]), fill=255)
        if shape == "ring":
            hole = 0.55 * r
            pen.ellipse(_scaled([(x - hole, y - hole), (x + hole, y + hole)]), fill=0)
    else:
        pen.polygon(_scaled([(x + r * u, y + r * v) for u, v in _OUTLINES[shape]]), fill=255)
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


def _paint(placed: Placed, background: str) -> Image.Image:
    """What a thing is painted with: its colour, striped or dotted with another where it is not plain."""
    thing = placed.thing
    size = SIDE * _SCALE
    if not thing.texture:
        return Image.new("RGB", (size, size), PALETTE[thing.colour])
    steps = (np.arange(size) + 0.5) / _SCALE
    if thing.texture == "striped":
        marked = np.broadcast_to(((steps[:, None] - placed.y) % 8 + 8) % 8 < 2.6, (size, size))
    else:
        down = ((steps[:, None] - placed.y + 3.5) % 7) - 3.5
        across = ((steps[None, :] - placed.x + 3.5) % 7) - 3.5
        marked = down**2 + across**2 < 1.7**2
    ink, paper = (np.array(PALETTE[name], dtype=np.uint8) for name in (accent(thing.colour, background), thing.colour))
    return Image.fromarray(np.where(marked[..., None], ink, paper))


def _scaled(points: Sequence[Point]) -> list[Point]:
    """Ends of a filled area as Pillow wants them, which counts the last pixel in."""
    return [(x * _SCALE - 0.5, y * _SCALE - 0.5) for x, y in points]


def _inside(middle: float, radius: float) -> float:
    margin = 1.12 * radius + 1
    return min(max(middle, margin), SIDE - margin)
