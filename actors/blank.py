"""Blank images: black, of one colour, or not finite. Found by looking at every pixel, never passed as good.

Under `checks.blank: keep` black and constant images are kept as they are. One that is not finite is a failed row even
then: NaN has no colour, so there is nothing to keep.
"""

import numpy as np

from actors.models.model import Images

NOT_FINITE = "NaN or infinite"
STRIDE = 16
"""Pixels between those that are looked at first: an image that differs there is not blank, whatever the rest is."""


def find_blank(images: Images) -> tuple[str | None, ...]:
    """For each image why it is blank, or None."""
    pixels = images.pixels
    varied = (pixels[:, ::STRIDE, ::STRIDE] != pixels[:, :1, :1]).any(axis=(1, 2, 3))
    return tuple(
        NOT_FINITE if not finite else None if differs else _reason(image)
        for image, finite, differs in zip(pixels, images.finite, varied, strict=True)
    )


def _reason(image: np.ndarray) -> str | None:
    if (image != image[0, 0]).any():
        return None
    return "of one colour" if image[0, 0].any() else "black"
