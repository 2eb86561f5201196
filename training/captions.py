"""What the demo's model knows: scenes, the captions that tell of them, and which of them it never sees in training."""

import hashlib
import re
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

SHAPES = ("circle", "square", "triangle", "diamond", "star", "cross", "heart", "ring")
OUTER_SHAPES = ("circle", "square", "diamond", "heart")  # what another shape fits into
COLOURS = (
    "red",
    "orange",
    "yellow",
    "green",
    "cyan",
    "blue",
    "purple",
    "pink",
    "brown",
    "black",
    "grey",
    "white",
)
SIZES = ("", "small", "large")
TEXTURES = ("", "striped", "dotted")
POSITIONS = {
    "": (0, 0),
    "at the left": (-1, 0),
    "at the right": (1, 0),
    "at the top": (0, -1),
    "at the bottom": (0, 1),
    "in the top left corner": (-1, -1),
    "in the top right corner": (1, -1),
    "in the bottom left corner": (-1, 1),
    "in the bottom right corner": (1, 1),
}
RELATIONS = ("left of", "right of", "above", "below", "inside")
NUMBERS = {2: "two", 3: "three", 4: "four"}
OBJECTS = ("house", "tree", "flower", "mushroom", "boat", "balloon")
OBJECT_COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "white")
GROUNDS = {"grass": "on the grass", "snow": "in the snow", "sand": "on the beach", "sea": "on the sea"}
TIMES = {"day": "by day", "night": "at night", "sunset": "at sunset"}
KINDS = ("one", "pair", "count", "scenery")

_HELD_OUT_SHARE = 10  # percent of all combinations
_WORD = re.compile(r"[a-z]+")


@dataclass(frozen=True)
class Thing:
    """One shape, or one object of a scenery."""

    shape: str
    colour: str
    size: str = ""
    texture: str = ""


@dataclass(frozen=True)
class Scene:
    """Everything a caption says. What a kind has no use for stays empty."""

    kind: str
    things: tuple[Thing, ...]
    background: str = ""
    position: str = ""
    relation: str = ""
    number: int = 1
    ground: str = ""
    time: str = ""

    @cached_property
    def combination(self) -> str:
        """What makes the scene new or known: sizes, places and textures aside, which are free to vary in either."""
        words = [self.kind, str(self.number), self.relation, self.background, self.ground, self.time]
        return "|".join([*words, *(f"{thing.colour} {thing.shape}" for thing in self.things)])

    @property
    def held_out(self) -> bool:
        """Whether no training caption has this combination. It follows from the words alone."""
        digest = hashlib.sha256(self.combination.encode()).digest()
        return int.from_bytes(digest[:4]) % 100 < _HELD_OUT_SHARE


def caption(scene: Scene) -> str:
    """The scene in words."""
    if scene.kind == "scenery":
        (thing,) = scene.things
        place = f"over the {scene.ground}" if thing.shape == "balloon" else GROUNDS[scene.ground]
        return f"{_with_article(_words(thing))} {place} {TIMES[scene.time]}"
    if scene.kind == "pair":
        first, second = (_with_article(_words(thing)) for thing in scene.things)
        subject = f"{first} {scene.relation} {second}"
    elif scene.kind == "count":
        subject = f"{NUMBERS[scene.number]} {_words(scene.things[0])}{_plural(scene.things[0].shape)}"
    else:
        subject = f"{_with_article(_words(scene.things[0]))} {scene.position}".strip()
    return f"{subject} on {_with_article(scene.background)} background"


def loosely(scene: Scene, random: np.random.Generator) -> str:
    """The scene in words as somebody in a hurry types them: now and then shorter than `caption` has it."""
    text = caption(scene)
    mood = random.random()
    if mood < 0.06 and scene.background == "white":
        return text.removesuffix(" on a white background")
    if mood < 0.12:
        return text.removesuffix(" background").replace(" on a ", " on ").replace(" on an ", " on ")
    if mood < 0.16 and text.startswith(("a ", "an ")):
        return text.partition(" ")[2]
    return text


def draw_scene(random: np.random.Generator, kind: str, *, held_out: bool = False) -> Scene:
    """A scene of that kind: of the training captions, or of those that were kept from them."""
    while True:
        scene = _MAKERS[kind](random)
        if scene.held_out == held_out:
            return scene


def held_out_scenes(kind: str, count: int, seed: int = 0) -> list[Scene]:
    """The same scenes each time, all of them of combinations that no training caption has."""
    random = np.random.default_rng([seed, KINDS.index(kind)])
    return [draw_scene(random, kind, held_out=True) for _ in range(count)]


def words() -> list[str]:
    """Every word of the grammar, sorted."""
    texts = [
        *(caption(Scene("one", (Thing(s, c),), background=c)) for s, c in zip(SHAPES * 2, COLOURS, strict=False)),
        *(caption(Scene("count", (Thing(s, "red"),), background="red", number=2)) for s in SHAPES),
        *(
            caption(Scene("scenery", (Thing(o, "red"),), ground=g, time=t))
            for o in OBJECTS
            for g in GROUNDS
            for t in TIMES
        ),
        *(caption(Scene("scenery", (Thing("balloon", "orange"),), ground=g, time="day")) for g in GROUNDS),
        *SIZES,
        *TEXTURES,
        *POSITIONS,
        *RELATIONS,
        *NUMBERS.values(),
    ]
    return sorted(set(_WORD.findall(" ".join(texts))))


def _words(thing: Thing) -> str:
    return " ".join(filter(None, (thing.size, thing.texture, thing.colour, thing.shape)))


def _with_article(text: str) -> str:
    return f"an {text}" if text[0] in "aeiou" else f"a {text}"


def _plural(shape: str) -> str:
    return "es" if shape == "cross" else "s"


def _pick(random: np.random.Generator, values: tuple[str, ...], *, but: tuple[str, ...] = ()) -> str:
    left = [value for value in values if value not in but]
    return left[int(random.integers(len(left)))]


def _one(random: np.random.Generator) -> Scene:
    background = _pick(random, COLOURS)
    size = SIZES[int(random.choice(3, p=(0.5, 0.25, 0.25)))]
    texture = TEXTURES[int(random.choice(3, p=(0.7, 0.15, 0.15)))]
    position = "" if size == "large" or random.random() < 0.5 else _pick(random, tuple(POSITIONS))
    thing = Thing(_pick(random, SHAPES), _pick(random, COLOURS, but=(background,)), size, texture)
    return Scene("one", (thing,), background=background, position=position)


def _pair(random: np.random.Generator) -> Scene:
    relation = _pick(random, RELATIONS)
    background = _pick(random, COLOURS)
    first = Thing(_pick(random, SHAPES), _pick(random, COLOURS, but=(background,)))
    other = OUTER_SHAPES if relation == "inside" else SHAPES
    second = Thing(_pick(random, other), _pick(random, COLOURS, but=(background, first.colour)))
    return Scene("pair", (first, second), background=background, relation=relation)


def _count(random: np.random.Generator) -> Scene:
    scene = replace(_one(random), kind="count", position="", number=int(random.integers(2, 5)))
    return replace(scene, things=(Thing(scene.things[0].shape, scene.things[0].colour),))


def _scenery(random: np.random.Generator) -> Scene:
    thing = Thing(_pick(random, OBJECTS), _pick(random, OBJECT_COLOURS))
    if thing.shape == "boat":
        ground = "sea"
    else:
        ground = _pick(random, tuple(GROUNDS), but=() if thing.shape == "balloon" else ("sea",))
    return Scene("scenery", (thing,), ground=ground, time=_pick(random, tuple(TIMES)))


_MAKERS = {"one": _one, "pair": _pair, "count": _count, "scenery": _scenery}
