"""Likeness: how far two pictures are apart, and whether that is rounding."""

import math
from dataclasses import dataclass

import numpy as np

from actors.models.model import Pixels
from actors.settings import ImageFormat

LEAST_PSNR = 45.0
"""dB. Every second channel of every pixel off by one level gives 51 dB, two levels everywhere 42 dB."""
MOST_LEVELS: dict[ImageFormat, int] = {"webp": 2, "png": 2, "jpeg": 32}
"""Of 255, between two pixels. One level before JPEG moves a coefficient by a whole step of its table: up to 24 levels
afterwards, measured on a photograph of which a fifth was moved by one level, at qualities 50, 75 and 95."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """The distance of two pictures of one size."""

    max_difference: int
    """Levels, 0 to 255: the largest difference in a channel of a pixel."""
    psnr: float
    """dB; infinite where no pixel differs."""

    def is_rounding(self, format: ImageFormat) -> bool:  # noqa: A002 - the column's name
        """Whether the same picture was computed, but for the order or the precision of the arithmetic."""
        return self.max_difference <= MOST_LEVELS[format] and self.psnr >= LEAST_PSNR


def likeness(one: Pixels, other: Pixels) -> Likeness:
    """Compare two pictures of one size.

    PSNR is 10 log10(255^2 / MSE), with the mean of the squared differences over all pixels and channels, as
    ITU-T J.340 (2010) has it for samples of 8 bits.
    """
    difference = np.abs(one.astype(np.int16) - other.astype(np.int16))
    error = float(np.mean(np.square(difference, dtype=np.float64)))
    psnr = 10 * math.log10(255**2 / error) if error else math.inf
    return Likeness(int(difference.max()), psnr)
