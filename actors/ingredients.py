"""Ingredients: what an image is made of beside its prompt."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file that an image is made from, and what it must hold: None where that was never seen."""

    file: str
    sha256: str | None = None

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return self.file


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """The image of the stage before that an image is made from, by the columns of its row."""

    key: str
    sha256: str
    width: int = 0
    height: int = 0
    file: str | None = None
    """Relative to the output; None where it is there no more."""
    file_offset: int = 0
    file_length: int = 0
    digital_source_type: str | None = None

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return self.key


Ingredient = InputFile | Parent


@dataclass(frozen=True, slots=True, kw_only=True)
class InputImages:
    """What the ingredients of a request hold, sized for it."""

    image: NDArray[np.uint8]
    """`[height, width, 3]`, RGB: of the image that is made, or a quarter of that where it is upscaled."""
    mask_image: NDArray[np.uint8] | None = None
    """`[height, width]`: what is white is made anew."""
    depth_map: NDArray[np.float32] | None = None
    """`[height, width]`, from 0 to 1: what is bright is near."""
    sha256: Mapping[str, str]
    """Of the files, by the names of the fields above."""
