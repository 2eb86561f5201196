"""Natural-like images: gradients, soft blobs, hard edges, texture and mild sensor noise, the same for equal seeds.

Pure noise would make every lossless encoder look bad, and flat colour would make each look good. Their statistics are
near those of photographs: PNG and lossless WebP make about half of the raw bytes of them.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


def natural_image(size: int, seed: int = 0) -> Pixels:
    """One image `[size, size, 3]`, RGB."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    image = np.empty((size, size, 3), np.float32)
    image[:] = rng.uniform(40, 160, 3)
    image += np.stack([rng.normal(0, 40) * x + rng.normal(0, 40) * y for _ in range(3)], axis=-1)  # sky, walls
    for _ in range(12):
        image += _blob(x, y, rng)
    for _ in range(8):
        _paint_shape(image, x, y, rng)
    image += _texture(size, rng)[..., None] * rng.uniform(0.6, 1.0, 3)
    image += rng.normal(0, 2.0, image.shape)  # sensor noise
    return np.clip(image, 0, 255).astype(np.uint8)


def natural_images(size: int, count: int, seed: int = 0) -> list[Pixels]:
    """`count` images, all different."""
    return [natural_image(size, seed + number) for number in range(count)]


def null_model(images: list[Pixels], count: int) -> Iterator[Pixels]:
    """What a model would make if it took no time: `count` images, going round."""
    for number in range(count):
        yield images[number % len(images)]


def _blob(x: NDArray[np.float32], y: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Soft light or shade."""
    cx, cy = rng.uniform(0, 1, 2)
    width = rng.uniform(0.05, 0.4)
    bump = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * width**2))
    return bump[..., None] * rng.normal(0, 30, 3).astype(np.float32)


def _paint_shape(
    image: NDArray[np.float32], x: NDArray[np.float32], y: NDArray[np.float32], rng: np.random.Generator
) -> None:
    """An object with a hard edge and its own shading, over what lies behind."""
    cx, cy = rng.uniform(0, 1, 2)
    angle = rng.uniform(0, np.pi)
    u = (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)
    v = (y - cy) * np.cos(angle) - (x - cx) * np.sin(angle)
    a, b = rng.uniform(0.03, 0.25, 2)
    inside = (np.abs(u) < a) & (np.abs(v) < b) if rng.random() < 0.5 else (u / a) ** 2 + (v / b) ** 2 < 1
    shade = (rng.uniform(20, 220, 3) + rng.normal(0, 50) * u[..., None] / 0.3).astype(np.float32)
    image[inside] = shade[inside]


def _texture(size: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Noise of every scale, stronger the coarser (the 1/f spectrum of natural scenes), in luminance."""
    texture = np.zeros((size, size), np.float32)
    cells = 8
    while cells < size:
        grid = rng.normal(0, 1, (cells + 1, cells + 1)).astype(np.float32)
        texture += _stretch(grid, size) * (40.0 / cells) ** 0.75
        cells *= 2
    return texture


def _stretch(grid: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Bilinear, to `size` x `size`."""
    at = np.linspace(0, grid.shape[0] - 1, size, endpoint=False, dtype=np.float32)
    low = at.astype(np.intp)
    part = at - low
    rows = grid[low] * (1 - part)[:, None] + grid[low + 1] * part[:, None]
    return rows[:, low] * (1 - part) + rows[:, low + 1] * part
