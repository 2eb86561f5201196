"""Drawings of scenes: which shape goes where, and how large. What the caption leaves open, chance decides."""

import numpy as np

from training.canvas import PALETTE, SIDE, Canvas, Point
from training.captions import POSITIONS, Scene
from training.scenery import draw_scenery
from training.shapes import Placed, mask_of, paint_of

RADII = {"small": 11.0, "": 16.5, "large": 24.0}  # below 11, a star and a circle differ by a handful of pixels


def draw(scene: Scene, random: np.random.Generator) -> np.ndarray:
    """A picture of the scene. What the caption leaves open, chance decides."""
    if scene.kind == "scenery":
        return draw_scenery(scene, random)
    canvas = Canvas(PALETTE[scene.background])
    for placed in arrange(scene, random):
        canvas.stamp(mask_of(placed), paint_of(placed, scene.background))
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


def _arrange_pair(scene: Scene, random: np.random.Generator) -> list[Placed]:
    first, second = scene.things
    if scene.relation == "inside":
        outer = random.uniform(24, 27) * (1.1 if second.shape == "diamond" else 1.0)
        inner = random.uniform(9, 10.5)
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
        spots, radius = [(17, 18), (47, 18), (32, 46)], random.uniform(9.5, 11)
    else:
        spots, radius = [(17, 17), (47, 17), (17, 47), (47, 47)], random.uniform(9.5, 11)
    sway = 8.0 if scene.number == 2 else 2.0
    shift = random.uniform(-1, 1, (len(spots), 2)) * (1.0, sway)
    return [Placed(thing, x + dx, y + dy, radius) for (x, y), (dx, dy) in zip(spots, shift, strict=True)]


def _inside(middle: float, radius: float) -> float:
    margin = 1.12 * radius + 1
    return min(max(middle, margin), SIDE - margin)
