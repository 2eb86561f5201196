"""Ray Data as well as it can be done: no pixel passes through the object store.

`python -m benchmarks.baselines.ray_tuned TASK`. An actor holds the model. Two calls are in it at once: while one has
the device, the other has its images encoded by a pool of threads, with the same encoder as lightmill's, and written to
one tar a block. What goes on is a row of metadata for each image, which `write_parquet` stores.
"""

import hashlib
import io
import json
import tarfile
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import ray

from actors.encoding import encode
from actors.models.model import Pixels
from actors.settings import EncodingSettings
from benchmarks.baselines.painters import painter
from benchmarks.baselines.task import Task, batches, note_ready, report

BATCHES_A_BLOCK = 4
"""Blocks are what is in flight: large enough to be worth a call, small enough that two of them overlap."""
PNG = EncodingSettings(format="png", metadata=False)
Columns = dict[str, "np.ndarray[Any, Any]"]


class Generator:
    """The model of one actor, with threads that encode."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._device = threading.Lock()
        # Its arithmetic stays on one thread: how many threads torch computes with is a matter of each.
        self._thread = ThreadPoolExecutor(1)
        self._painter = self._thread.submit(painter, task).result()
        self._encoders = ThreadPoolExecutor(task.encoders)
        note_ready(task.where)

    def __call__(self, block: Columns) -> Columns:
        rows = list(zip(block["prompt"].tolist(), block["seed"].tolist(), strict=True))
        encoded = []
        with self._device:
            for prompts, seeds in batches(rows, self._task.batch):
                pixels = self._thread.submit(self._painter.pixels, prompts, seeds).result()
                encoded += [self._encoders.submit(_encode, image) for image in pixels]
        file = f"{uuid.uuid4().hex}.tar"
        hashes = []
        with tarfile.open(self._task.output / file, "w") as tar:
            for number, ((prompt, seed), image) in enumerate(zip(rows, encoded, strict=True)):
                data, sha256 = image.result()
                hashes.append(sha256)
                _add(tar, f"{number:06d}.png", data)
                _add(tar, f"{number:06d}.json", json.dumps({"prompt": prompt, "seed": seed}).encode())
        names = np.array([f"{file}/{number:06d}.png" for number in range(len(rows))])
        return {**block, "image": names, "sha256": np.array(hashes)}


def _encode(pixels: Pixels) -> tuple[bytes, str]:
    data = encode(pixels, PNG)
    return data, hashlib.sha256(data).hexdigest()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def main() -> None:
    """Generate and write."""
    task = Task.of_command_line()
    ray.init(address="local", include_dashboard=False, log_to_driver=False)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    rows = BATCHES_A_BLOCK * task.batch
    on_gpu = task.device == "cuda"
    made = (
        ray.data.read_parquet(str(task.table))
        .repartition(max(1, -(-task.images // rows)))
        .map_batches(
            Generator,
            batch_size=None,
            fn_constructor_kwargs={"task": task},
            compute=ray.data.ActorPoolStrategy(
                size=1,
                max_tasks_in_flight_per_actor=4,
                max_concurrent_calls_per_actor=2,
                enable_true_multi_threading=True,
            ),
            num_cpus=1,
            num_gpus=1 if on_gpu else 0,
        )
    )
    made.write_parquet(str(task.output / "metadata"))
    report(task, sum(map(_rows, (task.output / "metadata").glob("*.parquet"))))


def _rows(path: Path) -> int:
    import pyarrow.parquet as pq

    count: int = pq.read_metadata(path).num_rows
    return count


if __name__ == "__main__":
    main()
