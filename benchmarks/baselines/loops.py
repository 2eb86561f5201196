"""Loops: a script that makes one batch after the other, with nothing around it but what is named."""

from collections import deque
from collections.abc import Callable
from pathlib import Path

from actors.encoding import encode
from actors.models.model import Pixels
from actors.settings import EncodingSettings
from benchmarks.baselines.painters import Engine, Painter
from benchmarks.baselines.task import Row, batches

Loop = Callable[[Painter, list[Row], int, Path], None]


def thrown_away(painter: Painter, rows: list[Row], batch: int, folder: Path) -> None:
    """The pure loop: pixels are made, and nothing is done with them. A device that can be given the next batch before
    the last one is fetched always has one to do."""
    if not isinstance(painter, Engine):
        for prompts, seeds in batches(rows, batch):
            painter.pixels(prompts, seeds)
        return
    waits = deque[Callable[[], Pixels]]()
    for prompts, seeds in batches(rows, batch):
        waits.append(painter.launch(prompts, seeds))
        if len(waits) > 1:
            waits.popleft()()
    while waits:
        waits.popleft()()


def saved(painter: Painter, rows: list[Row], batch: int, folder: Path) -> None:
    """What most users write: `pipe(list)`, and `save` for each of the images."""
    done = 0
    for prompts, seeds in batches(rows, batch):
        for image in painter.images(prompts, seeds):
            image.save(folder / f"{done:06d}.png")
            done += 1


def hand_tuned(painter: Painter, rows: list[Row], batch: int, folder: Path) -> None:
    """What a user writes who has measured: no Pillow on the way, the fastest PNG encoder, one file each, in line."""
    done, png = 0, EncodingSettings(format="png", metadata=False)
    for prompts, seeds in batches(rows, batch):
        for pixels in painter.pixels(prompts, seeds):
            (folder / f"{done:06d}.png").write_bytes(encode(pixels, png))
            done += 1
