"""Task: what all contenders make: the same prompts and seeds, of the same weights, size, steps and batch."""

import dataclasses
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from actors.tables.seeds import derive_seed

Row = tuple[str, int]
"""A prompt and the seed of its noise."""
COLOURS = ("red", "green", "blue", "yellow", "white", "black", "orange", "purple")
SHAPES = ("circle", "square", "triangle", "star", "house", "tree", "boat", "sun")


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One piece of work, small enough for a command line."""

    model: str
    """As a job names it."""
    folder: str = ""
    """The same weights, for whoever asks diffusers for them. Empty: a `fake` model, which they ask themselves."""
    images: int
    width: int
    height: int
    steps: int = 1
    guidance: float = 0.0
    batch: int = 8
    threads: int = 1
    """Of one process's arithmetic."""
    dtype: str = "float32"
    device: str = "cpu"
    encoders: int = 2
    """Threads that turn pixels into files, for those who have any."""
    where: str = ""
    """The folder with `prompts.parquet`, and for all that is made."""

    def placed(self, folder: Path) -> "Task":
        """With its table of prompts, and a place for what comes of it."""
        rows = [(_prompt(number), derive_seed(0, str(number), 0)) for number in range(self.images)]
        prompts, seeds = map(list, zip(*rows, strict=True))
        # Row groups of one shard, as whatever reads a table in pieces wants it.
        pq.write_table(pa.table({"prompt": prompts, "seed": seeds}), folder / "prompts.parquet", row_group_size=256)
        return dataclasses.replace(self, where=str(folder))

    @property
    def table(self) -> Path:
        return Path(self.where) / "prompts.parquet"

    @property
    def output(self) -> Path:
        """A folder for what is made."""
        folder = Path(self.where) / "made"
        folder.mkdir(exist_ok=True)
        return folder

    def rows(self) -> list[Row]:
        """All of the table."""
        table = pq.read_table(self.table)
        return list(zip(table["prompt"].to_pylist(), table["seed"].to_pylist(), strict=True))

    def job(self, *, shard_size: int, workers: int = 1, image_format: str = "png") -> dict[str, Any]:
        """The same as a job file says it."""
        return {
            "prompts": str(self.table),
            "overrides": ["seed"],
            "output": str(Path(self.where) / "out"),
            "shard_size": shard_size,
            "encoding": {"format": image_format},
            "models": [
                {
                    "model": self.model,
                    "width": self.width,
                    "height": self.height,
                    "num_inference_steps": self.steps,
                    "guidance_scale": self.guidance,
                    "batch_size": self.batch,
                    "threads": self.threads,
                    "dtype": self.dtype,
                    "workers": {"min": workers, "max": workers},
                }
            ],
        }

    def dump(self) -> str:
        """For a command line."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def of_command_line(cls) -> "Task":
        """The one that this process was started for."""
        return cls(**json.loads(sys.argv[1]))


def batches(rows: list[Row], size: int) -> Iterator[tuple[list[str], list[int]]]:
    """Prompts and seeds of one forward pass after the other."""
    for start in range(0, len(rows), size):
        prompts, seeds = zip(*rows[start : start + size], strict=True)
        yield list(prompts), list(seeds)


def note_ready(folder: str) -> None:
    """Weights are in memory and work begins: what came before is start-up."""
    path = Path(folder) / "ready"
    if not path.exists():
        path.write_text(repr(time.time()))


def report(task: Task, images: int, batches: Sequence[tuple[float, int]] = ()) -> None:
    """What a baseline says at its end: how many images, between when and when; and where it knows, when each batch was
    done, and its images."""
    began = float((Path(task.where) / "ready").read_text())
    said = {"images": images, "began": began, "ended": time.time(), "batches": batches}
    (Path(task.where) / "report.json").write_text(json.dumps(said))


def _prompt(number: int) -> str:
    """In words that the demo's model knows, all different."""
    colour, shape = COLOURS[number % len(COLOURS)], SHAPES[number // len(COLOURS) % len(SHAPES)]
    return f"a {colour} {shape}, number {number}"
