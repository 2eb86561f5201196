"""Ray Data as its own example for Stable Diffusion has it: a prompt at a time, Pillow images, all brought home.

https://docs.ray.io/en/latest/data/examples/stablediffusion_batch_prediction.html. Unlike the example's, the seeds are
used. `python -m benchmarks.baselines.ray_example TASK`.
"""

from typing import Any

import numpy as np
import pandas as pd
import ray

from benchmarks.baselines.painters import painter
from benchmarks.baselines.task import Task, note_ready, report


class Predictor:
    """The model of one actor."""

    def __init__(self, task: Task) -> None:
        self._painter = painter(task)
        note_ready(task.where)

    def __call__(self, batch: pd.DataFrame) -> dict[str, Any]:
        images = self._painter.images(batch["prompt"].tolist(), batch["seed"].tolist())
        column = np.empty(len(images), dtype=object)
        column[:] = images
        return {"image": column}


def main() -> None:
    """Predict, take all, save."""
    task = Task.of_command_line()
    ray.init(address="local", include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    rows = ray.data.from_pandas(pd.DataFrame(task.rows(), columns=["prompt", "seed"]))
    images = rows.map_batches(
        Predictor,
        batch_size=1,
        batch_format="pandas",
        fn_constructor_kwargs={"task": task},
        compute=ray.data.ActorPoolStrategy(size=1),
        num_gpus=1 if task.device == "cuda" else 0,
    ).take_all()
    for number, row in enumerate(images):
        row["image"].save(task.output / f"{number:06d}.png")
    report(task, len(images))


if __name__ == "__main__":
    main()
