"""A whole job where Ray is not installed: a worker in this process, two shards in hand, each committed by its metadata.

All that a job does beside lease and the driver's calls, whose cost other benchmarks measure.
"""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from actors import metadata
from actors.records import Shard, ShardOrder, ShardReport
from actors.storage.opening import open_bucket
from actors.worker import Worker
from benchmarks.baselines.task import Task
from benchmarks.contest import Contender, Outcome
from jobs.bench import IN_HAND
from jobs.lanes import lane_recipes
from jobs.order import RunOrder
from jobs.promise import make_promise
from jobs.spec import JobSpec


def solo_job(task: Task, *, shard_size: int) -> Contender:
    """The same as `whole_job`, as far as it goes without Ray."""

    def run(folder: Path) -> Outcome:
        placed = task.placed(folder)
        spec = JobSpec.model_validate(placed.job(shard_size=shard_size))
        began = time.perf_counter()
        bucket = open_bucket(spec.output)
        promise = make_promise(bucket, RunOrder(spec=spec, check="none"), lambda text: None)
        manifest = promise.keep(bucket, lambda: None)
        (recipe,) = lane_recipes(manifest, spec, gpus=0)
        worker = Worker(recipe, "solo")
        ready = time.perf_counter()
        commits: list[tuple[float, int]] = []
        seconds: Counter[str] = Counter()

        def make(shard: Shard) -> None:
            *_, report = worker.run(ShardOrder(shard=shard))
            assert isinstance(report, ShardReport)
            assert not report.failed, report
            bucket.put(metadata.key(shard), report.metadata)
            commits.append((time.perf_counter() - ready, report.rows))
            seconds.update(report.seconds)

        with ThreadPoolExecutor(IN_HAND) as hands:
            list(hands.map(make, manifest.plan))
        ended = time.perf_counter()
        return Outcome(task.images, ended - ready, ended - began, seconds, tuple(sorted(commits)))

    return run
