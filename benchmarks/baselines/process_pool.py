"""A writer as img2dataset has it: a process a core, each of which fills tars of its own, with a table beside each.

`python -m benchmarks.baselines.process_pool TASK`. Its images are those of a model that takes no time, made in the same
process, where img2dataset downloads them; its encoder is lightmill's.
"""

import hashlib
import io
import json
import multiprocessing
import tarfile
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from actors.encoding import encode
from actors.settings import EncodingSettings
from benchmarks.baselines.painters import Null, Painter
from benchmarks.baselines.task import Row, Task, batches, note_ready, report

SHARD = 100
PNG = EncodingSettings(format="png", metadata=False)
_painters: dict[str, Painter] = {}
"""That of this process."""


def prepare(task: Task) -> None:
    """Once a process."""
    _painters["null"] = Null(task)


def write(task: Task, number: int, rows: list[Row]) -> int:
    """One shard: a tar, a table, and a word on how it went."""
    began, done = time.time(), []
    stem = task.output / f"{number:05d}"
    with tarfile.open(f"{stem}.tar", "w") as tar:
        for prompts, seeds in batches(rows, task.batch):
            for prompt, seed, pixels in zip(prompts, seeds, _painters["null"].pixels(prompts, seeds), strict=True):
                data, key = encode(pixels, PNG), f"{number:05d}{len(done):04d}"
                row = {"key": key, "caption": prompt, "seed": seed, "status": "success"}
                row["sha256"] = hashlib.sha256(data).hexdigest()
                for suffix, content in (("png", data), ("txt", prompt.encode()), ("json", _json(row))):
                    member = tarfile.TarInfo(f"{key}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
                done.append(row)
    pq.write_table(pa.Table.from_pylist(done), f"{stem}.parquet")
    stem.with_name(f"{stem.name}_stats.json").write_bytes(_json({"count": len(done), "began": began}))
    return len(done)


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode()


def main() -> None:
    """All shards, as processes become free."""
    task = Task.of_command_line()
    rows = task.rows()
    shards = [rows[start : start + SHARD] for start in range(0, len(rows), SHARD)]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(task.encoders, mp_context=spawn, initializer=prepare, initargs=(task,)) as pool:
        list(pool.map(time.sleep, [0.2] * task.encoders))  # so that all of them are there
        note_ready(task.where)
        report(task, sum(pool.map(write, [task] * len(shards), range(len(shards)), shards)))


if __name__ == "__main__":
    main()
