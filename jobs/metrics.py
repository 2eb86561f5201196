"""Metrics: how a run goes, for whoever watches a cluster: by Ray's agent on the head's machine to Prometheus.

Ray puts `ray_` before each name, and `_total` after a counter's. Labels are few, and none has a value for each prompt,
image or worker; `run` is the job's name, since Prometheus has a label `job` of its own. A dashboard of them is
`docs/grafana.json`.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import ray
from ray.util import metrics

COUNTERS = {
    "lightmill_images": ("Images of this run, by what became of them", ("run", "status")),
    "lightmill_seconds": ("Seconds of all workers, by what they were spent on", ("run", "cause")),
}
GAUGES = {
    "lightmill_images_left": ("Promised images that are not made yet", ("run",)),
    "lightmill_shards_waiting": ("Shards that could be made now, and that no worker has", ("run",)),
    "lightmill_workers": ("Workers, by whether they have loaded their model", ("run", "state")),
    "lightmill_machines_left_out": ("Machines that failed again and again", ("run",)),
}


def has_agent() -> bool:
    """Whether anything on this machine takes them."""
    here = ray.get_runtime_context().get_node_id()
    return any(node["NodeID"] == here and node["MetricsExportPort"] > 0 for node in ray.nodes())


class Metrics:
    """Counts go up only: what is made again, because its worker died, is not counted again."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._counters = {name: metrics.Counter(name, text, labels) for name, (text, labels) in COUNTERS.items()}
        self._gauges = {name: metrics.Gauge(name, text, labels) for name, (text, labels) in GAUGES.items()}
        self._highest: defaultdict[tuple[str, str], float] = defaultdict(float)
        self._before: int | None = None

    def update(self, status: Mapping[str, Any], waiting: int) -> None:
        """`status` is what `status.json` holds, `waiting` how many shards wait for a worker."""
        if self._before is None:
            self._before = status["done"]
        failed, filtered = status["failed"], status["filtered"]
        ok = status["done"] - self._before - failed - filtered
        for label, images in {"ok": ok, "failed": failed, "filtered": filtered}.items():
            self._count("lightmill_images", "status", label, images)
        for cause, seconds in status["seconds"].items():
            self._count("lightmill_seconds", "cause", cause, seconds)
        self._set("lightmill_images_left", status["total"] - status["done"])
        self._set("lightmill_shards_waiting", waiting)
        self._set("lightmill_workers", status["workers"], state="ready")
        self._set("lightmill_workers", status["workers_wanted"] - status["workers"], state="awaited")
        self._set("lightmill_machines_left_out", len(status["left_out"]))

    def _count(self, name: str, key: str, label: str, value: float) -> None:
        more = value - self._highest[name, label]
        if more > 0:
            self._highest[name, label] = value
            self._counters[name].inc(more, tags={"run": self._run, key: label})

    def _set(self, name: str, value: float, **labels: str) -> None:
        self._gauges[name].set(value, tags={"run": self._run, **labels})
