"""A whole job where Ray is not installed: a worker in this process, two shards in hand, each committed by its metadata.

All that a job does beside plan, lease and the driver's calls, whose cost other benchmarks measure.
"""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from actors import metadata
from actors.models.registry import find_card
from actors.models.settings import ModelSettings
from actors.recipe import LaneRecipe
from actors.records import Shard, ShardOrder, ShardReport
from actors.storage.opening import open_bucket
from actors.tables.source import open_source
from actors.worker import Worker
from benchmarks.baselines.task import Task
from benchmarks.contest import Contender, Outcome
from jobs.bench import IN_HAND
from jobs.spec import JobSpec


def solo_job(task: Task, *, shard_size: int) -> Contender:
    """The same as `whole_job`, as far as it goes without Ray."""

    def run(folder: Path) -> Outcome:
        placed = task.placed(folder)
        spec = JobSpec.model_validate(placed.job(shard_size=shard_size))
        bucket = open_bucket(spec.output)
        began = time.perf_counter()
        worker = Worker(_recipe(placed, spec), "solo")
        ready = time.perf_counter()
        starts = range(0, task.images, shard_size)
        shards = [Shard(n, 0, start, min(start + shard_size, task.images)) for n, start in enumerate(starts)]
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
            list(hands.map(make, shards))
        ended = time.perf_counter()
        return Outcome(task.images, ended - ready, ended - began, seconds, tuple(commits))

    return run


def _recipe(task: Task, spec: JobSpec) -> LaneRecipe:
    (model,) = spec.lanes
    return LaneRecipe(
        lane=0,
        card=find_card(task.model),
        model=ModelSettings.model_validate(dict(model)),
        table=open_source(spec.prompts, spec.storage).table(),
        columns=spec.columns,
        overrides=spec.overrides,
        seed=spec.seed,
        images_per_prompt=spec.images_per_prompt,
        output=spec.output,
        sink=spec.sink,
        encoding=spec.encoding,
        checks=spec.checks,
        policy=spec.policy,
        prompt_filter=spec.prompt_filter,
        blocked=(),
        inputs=spec.inputs,
        storage=spec.storage,
        batch_timeout_seconds=spec.limits.batch_timeout_seconds,
    )
