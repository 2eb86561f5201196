"""`tiny` through a Worker to a folder, over the same pipeline called in a plain loop whose images are thrown away.

`python -m benchmarks.tiny_loop`. Same weights, prompts, steps, batch and threads, in turns, ratio of the medians. The
Worker does what the loop does, and besides encodes, hashes and stores every image with its metadata.
"""

import tempfile
from pathlib import Path
from statistics import median

import diffusers
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from actors.models.loading import load_model
from actors.models.registry import find_card
from actors.models.tiny import tiny_folder
from actors.recipe import LaneRecipe
from actors.records import Shard, ShardOrder, ShardReport
from actors.settings import (
    CheckSettings,
    EncodingSettings,
    FilterSettings,
    InputSettings,
    ModelSettings,
    PolicySettings,
    StorageSettings,
)
from actors.tables.source import open_source
from actors.worker import Worker
from benchmarks.timing import interleaved, print_table, write_results

IMAGES = 320
BATCH = 8
STEPS = 6
THREADS = 1
ROUNDS = 5
PROMPTS = [f"a painting of {number} foxes in the snow" for number in range(IMAGES)]


def loop(pipeline: "diffusers.StableDiffusionPipeline") -> None:
    """What a user writes: batch after batch, seeded."""
    for start in range(0, IMAGES, BATCH):
        pipeline(
            prompt=PROMPTS[start : start + BATCH],
            num_inference_steps=STEPS,
            generator=[torch.Generator().manual_seed(start + n) for n in range(BATCH)],
        )


def recipe(folder: Path) -> LaneRecipe:
    """The same for a worker."""
    pq.write_table(pa.table({"prompt": PROMPTS}), folder / "prompts.parquet")
    storage = StorageSettings()
    return LaneRecipe(
        lane=0,
        card=find_card("tiny"),
        model=ModelSettings(model="tiny", num_inference_steps=STEPS, batch_size=BATCH, threads=THREADS),
        table=open_source(str(folder / "prompts.parquet"), storage).table(),
        columns={},
        overrides=(),
        seed=0,
        images_per_prompt=1,
        output=str(folder / "out"),
        sink="webdataset",
        encoding=EncodingSettings(),
        checks=CheckSettings(),
        policy=PolicySettings(),
        prompt_filter=FilterSettings(),
        blocked=(),
        inputs=InputSettings(),
        storage=storage,
        batch_timeout_seconds=600,
    )


def main() -> None:
    """Measure, print, write down."""
    load_model(ModelSettings(model="tiny"))
    torch.set_num_threads(THREADS)
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(str(tiny_folder()), local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    reports: list[ShardReport] = []
    with tempfile.TemporaryDirectory() as folder:
        worker = Worker(recipe(Path(folder)), "bench")

        def work() -> None:
            *_, report = worker.run(ShardOrder(shard=Shard(0, 0, 0, IMAGES)))
            assert isinstance(report, ShardReport)
            reports.append(report)

        seconds = interleaved({"loop": lambda: loop(pipeline), "worker": work}, ROUNDS)
    assert all(report.rows == IMAGES and not report.failed for report in reports)
    rates = {name: IMAGES / median(times) for name, times in seconds.items()}
    row = {
        "images": IMAGES,
        "batch": BATCH,
        "threads": THREADS,
        "loop images/s": rates["loop"],
        "worker images/s": rates["worker"],
        "ratio": rates["worker"] / rates["loop"],
    }
    print_table([row])
    write_results("tiny_loop", [{**row, "seconds": seconds}])


if __name__ == "__main__":
    main()
