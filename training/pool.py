"""The training set: drawings made once, with their captions, and read again by every later step."""

import json
import multiprocessing
from pathlib import Path

import numpy as np

from training.canvas import SIDE
from training.captions import KINDS, draw_scene, loosely
from training.drawings import draw

SIZE = 24_000
SHARES = {"one": 0.40, "pair": 0.25, "count": 0.15, "scenery": 0.20}
PICTURES = "pictures.npy"
CAPTIONS = "captions.json"

_SLICE = 2_000


def make_pool(work: Path, *, seed: int, processes: int) -> None:
    """Draw the training set into `work`, unless it is there. The same seed gives the same drawings."""
    if (work / CAPTIONS).exists():
        return
    pictures = np.lib.format.open_memmap(work / PICTURES, mode="w+", dtype=np.uint8, shape=(SIZE, SIDE, SIDE, 3))
    texts: list[str] = []
    with multiprocessing.get_context("spawn").Pool(processes) as workers:
        for number, (part, captions) in enumerate(workers.imap(_slice, [(seed, n) for n in range(SIZE // _SLICE)])):
            pictures[number * _SLICE : (number + 1) * _SLICE] = part
            texts += captions
    pictures.flush()
    (work / CAPTIONS).write_text(json.dumps(texts))


def load_pictures(work: Path) -> np.ndarray:
    """The drawings: uint8, number x height x width x RGB, left on the disk until they are read."""
    pictures: np.ndarray = np.load(work / PICTURES, mmap_mode="r")
    return pictures


def load_captions(work: Path) -> list[str]:
    """What each drawing shows."""
    texts: list[str] = json.loads((work / CAPTIONS).read_text())
    return texts


def _slice(task: tuple[int, int]) -> tuple[np.ndarray, list[str]]:
    random = np.random.default_rng(list(task))
    kinds = random.choice(len(KINDS), size=_SLICE, p=[SHARES[kind] for kind in KINDS])
    scenes = [draw_scene(random, KINDS[kind]) for kind in kinds]
    return np.stack([draw(scene, random) for scene in scenes]), [loosely(scene, random) for scene in scenes]
