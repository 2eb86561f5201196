"""Actor: the one place where a plain `Worker` is put on Ray.

Actors are never restarted or called again by Ray: a lost call with retries stalls an ordered actor for about 30 s, and
the driver knows better what to hand out next. The driver owns them: when it dies, so do they.
"""

import os
from collections.abc import Collection
from typing import Any

import ray

from actors.logs import LogFile
from actors.models.model import ModelInfo
from actors.recipe import LaneRecipe
from actors.storage.opening import open_bucket
from actors.worker import Worker

CONCURRENCY = 8
"""Calls an actor serves at once: two shards, a ping, the end of a third shard's upload, and shards that were dropped
and have not come to their end."""


class WorkerActor(Worker):
    """A worker that loads its model in `ready`: of an error in an actor's constructor, Ray hands over only the text.

    What it logs goes to the output, and so outlives its node.
    """

    def __init__(self, recipe: LaneRecipe, name: str) -> None:
        self._given = (recipe, name)

    def where(self) -> tuple[str, str]:
        """The id of its node, and the address."""
        return ray.get_runtime_context().get_node_id(), ray.util.get_node_ip_address()

    def ready(self) -> ModelInfo:
        recipe, name = self._given
        if not recipe.model.gpus_per_worker:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""  # Ray leaves all of the machine's to a worker that has none
        self._log = LogFile(open_bucket(recipe.output, recipe.storage), f"worker-{name}")
        self._log.begin()
        super().__init__(recipe, name)
        return super().ready()

    def leave(self) -> dict[str, float]:
        """Put the last lines of the log; its seconds since the last report."""
        self._log.finish()
        return self.lap()


def hire(recipe: LaneRecipe, name: str, left_out: Collection[str]) -> Any:  # noqa: ANN401
    """The handle of a worker, which Ray starts once there is a place for it on a machine that is not left out."""
    options: dict[str, Any] = {
        "num_gpus": recipe.model.gpus_per_worker or 0,
        "num_cpus": 1,
        "max_concurrency": CONCURRENCY,
        "max_restarts": 0,
        "max_task_retries": 0,
    }
    if left_out:
        options["label_selector"] = {"ray.io/node-id": f"!in({','.join(left_out)})"}
    return ray.remote(WorkerActor).options(**options).remote(recipe, name)
