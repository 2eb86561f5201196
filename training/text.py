"""The text model's training: from a caption alone, tell everything it says of the scene.

It learns this in minutes, before any drawing is looked at, and stays as it is afterwards: the denoiser then gets words
whose meaning is settled, and both variants of it share one text model.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import transformers
from torch import nn

from training import captions
from training.captions import KINDS, Scene, Thing, draw_scene, loosely
from training.loop import Plan, load_average, train
from training.model import TEXT_WIDTH, TOKENS, make_text_encoder
from training.tokenizer import write_tokenizer

PLAN = Plan("text", steps=300, rate=1e-3, warmup=30, cooling=150, decay=0.99, save_every=100)

_BATCH = 48  # of each core
_SHAPES = ("", *captions.SHAPES, *captions.OBJECTS)
_COLOURS = ("", *captions.COLOURS)
_BACKGROUNDS = (*_COLOURS, *(f"{ground} {time}" for ground in captions.GROUNDS for time in captions.TIMES))
_THING = {"shape": _SHAPES, "colour": _COLOURS, "size": captions.SIZES, "texture": captions.TEXTURES}
_SCENE = {
    "kind": ("", *KINDS),
    "background": _BACKGROUNDS,
    "position": tuple(captions.POSITIONS),
    "relation": ("", *captions.RELATIONS),
    "number": ("1", "2", "3", "4"),
}


class Reader(nn.Module):
    """The text model, and questions that it is asked in training only: of either thing, and of the scene."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.encoder = make_text_encoder(vocabulary)
        self.questions = nn.Parameter(torch.randn(3, TEXT_WIDTH))
        self.attention = nn.MultiheadAttention(TEXT_WIDTH, 4, batch_first=True)
        self.answers = nn.ModuleDict({name: nn.Linear(TEXT_WIDTH, len(values)) for name, values in _fields()})

    def forward(self, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
        """Scores of all possible answers to every question."""
        states = self.encoder(tokens).last_hidden_state
        questions = self.questions.expand(len(tokens), -1, -1)
        found, _ = self.attention(questions, states, states, need_weights=False)
        return {name: self.answers[name](found[:, _row(name)]) for name, _ in _fields()}


def train_text(work: Path, *, seed: int, cores: int) -> None:
    """Write the tokenizer and train the text model to the end of its plan."""
    vocabulary = write_tokenizer(work / "tokenizer", captions.words())
    tokenizer = load_tokenizer(work)

    def loss_of(model: nn.Module, random: torch.Generator) -> torch.Tensor:
        chance = np.random.default_rng(int(torch.randint(2**62, (1,), generator=random)))
        scenes = [draw_scene(chance, KINDS[int(chance.integers(len(KINDS)))]) for _ in range(_BATCH)]
        texts = [loosely(scene, chance) for scene in scenes]
        scores = model(tokenize(tokenizer, texts))
        truth = [_truth(scene) for scene in scenes]
        losses = [
            nn.functional.cross_entropy(scores[name], torch.tensor([values.index(facts[name]) for facts in truth]))
            for name, values in _fields()
        ]
        return torch.stack(losses).mean()

    torch.manual_seed(seed)
    train(Reader(vocabulary), loss_of, PLAN, work, seed=seed, cores=cores)


def load_text_encoder(work: Path) -> transformers.CLIPTextModel:
    """The trained text model."""
    reader = Reader(len(load_tokenizer(work)))
    load_average(reader, work, PLAN.name)
    return reader.encoder


def load_tokenizer(work: Path) -> transformers.CLIPTokenizer:
    """The tokenizer that belongs to it."""
    return transformers.CLIPTokenizer.from_pretrained(str(work / "tokenizer"))


def tokenize(tokenizer: transformers.CLIPTokenizer, texts: list[str]) -> torch.Tensor:
    """Texts as numbers, all of one length, as the pipeline makes them."""
    encoded = tokenizer(texts, padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt")
    ids: torch.Tensor = encoded.input_ids
    return ids


def _fields() -> Iterator[tuple[str, tuple[str, ...]]]:
    for slot in ("first", "second"):
        for name, values in _THING.items():
            yield f"{slot}_{name}", values
    yield from _SCENE.items()


def _row(field: str) -> int:
    return {"first": 0, "second": 1}.get(field.partition("_")[0], 2)


def _truth(scene: Scene) -> dict[str, str]:
    first, second = (*scene.things, Thing("", ""))[:2]
    things = {"first": first, "second": second}
    answers = {f"{slot}_{name}": str(getattr(thing, name)) for slot, thing in things.items() for name in _THING}
    background = scene.background or f"{scene.ground} {scene.time}"
    scenery = {"kind": scene.kind, "background": background, "position": scene.position}
    return {**answers, **scenery, "relation": scene.relation, "number": str(scene.number)}
