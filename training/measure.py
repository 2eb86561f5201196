"""What a picture shows, told from its pixels: colours, shapes, how many of them, and where. No model takes part."""

from dataclasses import dataclass
from functools import cache

import numpy as np

from training.canvas import PALETTE, SIDE
from training.captions import SHAPES, Scene
from training.shapes import accent, shape_mask

SMALLEST = 20  # pixels: what is smaller is a speck and no shape

_NAMES = tuple(PALETTE)
_COLOURS = np.array(list(PALETTE.values()), dtype=np.float32)
_LIKENESS = 0.65  # of a mask and its best shape: overlap over union
_APART = 3.0  # pixels between two middles that lie left, right, above or below


@dataclass(frozen=True)
class Verdict:
    """Which claims of a caption its picture keeps. A claim that the caption does not make is kept."""

    background: bool
    colours: bool
    shapes: bool = True
    relation: bool = True
    number: bool = True

    @property
    def right(self) -> bool:
        """All of them."""
        return self.background and self.colours and self.shapes and self.relation and self.number


@dataclass(frozen=True)
class Patch:
    """Connected pixels."""

    mask: np.ndarray

    @property
    def area(self) -> int:
        """How many."""
        return int(self.mask.sum())

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, and the first column and row beyond."""
        rows, columns = np.flatnonzero(self.mask.any(axis=1)), np.flatnonzero(self.mask.any(axis=0))
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1

    @property
    def middle(self) -> tuple[float, float]:
        """The middle of its box."""
        left, top, right, bottom = self.box
        return (left + right) / 2, (top + bottom) / 2


def judge(pixels: np.ndarray, scene: Scene) -> Verdict:
    """Measure a picture by what its caption says. Sceneries are not measured: their colours are all mixed."""
    background = nearest(_frame(pixels))
    right = background == scene.background
    if scene.kind == "pair":
        return _judge_pair(pixels, scene, background_right=right)
    found = [patch for patch in patches(foreground(pixels, scene)) if patch.area >= SMALLEST]
    thing = scene.things[0]
    colours = bool(found) and all(_colour(pixels, patch) == thing.colour for patch in found)
    shapes = bool(found) and all(shape_of(patch) == thing.shape for patch in found)
    return Verdict(right, colours, shapes, number=len(found) == scene.number)


def nearest(colour: np.ndarray) -> str:
    """The name of the colour that this one is most like."""
    return _NAMES[int(np.argmin(((_COLOURS - colour) ** 2).sum(axis=1)))]


def foreground(pixels: np.ndarray, scene: Scene) -> np.ndarray:
    """Which pixels are not background: those on the far side of the middle between it and the thing's colours."""
    behind, thing = _frame(pixels), scene.things[0]
    inks = [thing.colour, *([accent(thing.colour, scene.background)] if thing.texture else [])]
    edge = 0.5 * min(float(np.sqrt(((np.array(PALETTE[ink]) - behind) ** 2).sum())) for ink in inks)
    mask = np.sqrt(((pixels - behind) ** 2).sum(axis=2)) > max(edge, 20.0)
    return _close(mask) if thing.texture else np.asarray(mask)


def patches(mask: np.ndarray) -> list[Patch]:
    """The connected parts of a mask, largest first. Pixels that touch at a corner are connected."""
    left = set(map(tuple, np.argwhere(mask).tolist()))
    found = []
    while left:
        edge = [left.pop()]
        part = np.zeros(mask.shape, dtype=bool)
        while edge:
            row, column = edge.pop()
            part[row, column] = True
            around = {(row + dy, column + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= around
            edge += around
        found.append(Patch(part))
    return sorted(found, key=lambda patch: -patch.area)


def shape_of(patch: Patch) -> str:
    """The shape that covers most of the patch and least beside it; "" where none does well."""
    left, top, right, bottom = patch.box
    best, name = _LIKENESS, ""
    for shape in SHAPES:
        u0, v0, u1, v1 = _unit_box(shape)
        radius = ((right - left) / (u1 - u0) + (bottom - top) / (v1 - v0)) / 2
        x, y = (left + right) / 2 - radius * (u0 + u1) / 2, (top + bottom) / 2 - radius * (v0 + v1) / 2
        ideal = shape_mask(shape, x, y, radius) > 0.5
        likeness = (ideal & patch.mask).sum() / (ideal | patch.mask).sum()
        if likeness > best:
            best, name = float(likeness), shape
    return name


def _judge_pair(pixels: np.ndarray, scene: Scene, *, background_right: bool) -> Verdict:
    wanted = [scene.background, *(thing.colour for thing in scene.things)]
    colours = np.array([PALETTE[name] for name in wanted], dtype=np.float32)
    owner = ((pixels[:, :, None, :] - colours) ** 2).sum(axis=3).argmin(axis=2)
    largest = [next(iter(patches(owner == number)), None) for number in (1, 2)]
    first, second = largest
    if first is None or second is None or min(first.area, second.area) < SMALLEST:
        return Verdict(background_right, False, False, False)
    pairs = list(zip((first, second), scene.things, strict=True))
    seen = all(_colour(pixels, patch) == thing.colour for patch, thing in pairs)
    filled = [first, Patch(_fill(second.mask) if scene.relation == "inside" else second.mask)]
    shapes = all(shape_of(patch) == thing.shape for patch, (_, thing) in zip(filled, pairs, strict=True))
    return Verdict(background_right, seen, shapes, _related(scene.relation, first, second))


def _related(relation: str, first: Patch, second: Patch) -> bool:
    (x, y), (other_x, other_y) = first.middle, second.middle
    if relation == "inside":
        within = _fill(second.mask) & ~second.mask
        return bool((within & first.mask).sum() > 0.9 * first.area)
    lead = {"left of": other_x - x, "right of": x - other_x, "above": other_y - y, "below": y - other_y}[relation]
    return lead > _APART


def _close(mask: np.ndarray) -> np.ndarray:
    """The mask without cracks of a pixel or two, as the edge of a stripe may look like what lies behind it."""
    return ~_grow(~_grow(mask))


def _grow(mask: np.ndarray) -> np.ndarray:
    wide = np.pad(mask, 1)
    rows = wide[:-2] | wide[1:-1] | wide[2:]
    return np.asarray(rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:])


def _fill(mask: np.ndarray) -> np.ndarray:
    """The mask with its holes closed: all that the outside does not reach."""
    padded = np.pad(~mask, 1, constant_values=True)
    outside = next(patch for patch in patches(padded) if patch.mask[0, 0])
    return np.asarray(~outside.mask[1:-1, 1:-1])


def _colour(pixels: np.ndarray, patch: Patch) -> str:
    """The colour that most of a patch has."""
    away = ((pixels[patch.mask][:, None, :] - _COLOURS) ** 2).sum(axis=2)
    return _NAMES[int(np.bincount(away.argmin(axis=1)).argmax())]


def _frame(pixels: np.ndarray) -> np.ndarray:
    """The colour along the picture's border."""
    border = np.concatenate([pixels[:2].reshape(-1, 3), pixels[-2:].reshape(-1, 3), pixels[:, 0], pixels[:, -1]])
    return np.asarray(np.median(border, axis=0))


@cache
def _unit_box(shape: str) -> tuple[float, float, float, float]:
    """The box of a shape of radius 1 about 0, measured on a large one."""
    radius = SIDE / 2.5
    rows, columns = np.nonzero(shape_mask(shape, SIDE / 2, SIDE / 2, radius) > 0.5)
    edges = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    left, top, right, bottom = ((float(edge) - SIDE / 2) / radius for edge in edges)
    return left, top, right, bottom
