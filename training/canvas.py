"""Canvas: a picture in the making, four times as large as the finished one, so that edges are smooth."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

SIDE = 64
SCALE = 4
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

Point = tuple[float, float]
Colour = tuple[int, int, int]


class Canvas:
    """A picture in the making. Coordinates are pixels of the finished one."""

    def __init__(self, background: Colour) -> None:
        self._image = Image.new("RGB", (SIDE * SCALE, SIDE * SCALE), background)
        self._draw = ImageDraw.Draw(self._image)

    def disc(self, x: float, y: float, radius: float, colour: Colour, *, height: float | None = None) -> None:
        """A filled circle, or an ellipse where `height` is another than the radius."""
        half = radius if height is None else height
        self._draw.ellipse(scaled([(x - radius, y - half), (x + radius, y + half)]), fill=colour)

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        """A filled rectangle."""
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], colour)

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        """A filled polygon."""
        self._draw.polygon(scaled(points), fill=colour)

    def stamp(self, mask: Image.Image, paint: Image.Image) -> None:
        """`paint` where the mask is set."""
        self._image.paste(paint, mask=mask)

    def pixels(self) -> np.ndarray:
        """The finished picture: height, width, RGB."""
        return np.asarray(self._image.reduce(SCALE))


def scaled(points: Sequence[Point]) -> list[Point]:
    """Ends of a filled area as Pillow wants them, which counts the last pixel in."""
    return [(x * SCALE - 0.5, y * SCALE - 0.5) for x, y in points]
