"""Metrics: what is counted, and a dashboard that asks for nothing else."""

import json
import re
from pathlib import Path
from typing import ClassVar

import pytest

import jobs.metrics
from jobs.metrics import COUNTERS, GAUGES, Metrics

DASHBOARD = json.loads(Path("docs/grafana.json").read_text())
EXPORTED = {f"ray_{name}_total": set(labels) for name, (_, labels) in COUNTERS.items()} | {
    f"ray_{name}": set(labels) for name, (_, labels) in GAUGES.items()
}
STATUS = {"done": 0, "total": 100, "failed": 0, "filtered": 0, "seconds": {}, "workers": 0, "workers_wanted": 2}
STATUS["left_out"] = ()


class Recorded:
    """A counter or a gauge of Ray's, and what it was told."""

    values: ClassVar[dict] = {}

    def __init__(self, name, text, labels):
        assert text
        self._name, self._labels = name, set(labels)

    def inc(self, value, tags):
        assert value > 0
        assert set(tags) == self._labels
        key = (self._name, *tags.values())
        self.values[key] = self.values.get(key, 0) + value

    def set(self, value, tags):
        assert set(tags) == self._labels
        self.values[(self._name, *tags.values())] = value


@pytest.fixture
def recorded(monkeypatch):
    monkeypatch.setattr(Recorded, "values", {})
    monkeypatch.setattr(jobs.metrics.metrics, "Counter", Recorded)
    monkeypatch.setattr(jobs.metrics.metrics, "Gauge", Recorded)
    return Recorded.values


def queries():
    panels = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    return panels + [v["query"] for v in DASHBOARD["templating"]["list"] if v["type"] == "query"]


def test_the_dashboard_asks_for_what_is_exported_and_shows_all_of_it():
    asked = [re.findall(r"\bray_\w+", query) for query in queries()]
    assert all(asked)
    assert {name for names in asked for name in names} == EXPORTED.keys()


@pytest.mark.parametrize("query", queries())
def test_a_query_uses_labels_that_its_metrics_have(query):
    known = set.intersection(*(EXPORTED[name] for name in re.findall(r"\bray_\w+", query)))
    used = set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)\s*\"", query))
    used |= {label.strip() for group in re.findall(r"by \(([^)]*)\)", query) for label in group.split(",")}
    assert used <= known
    assert query.count("(") == query.count(")")
    assert query.count("{") == query.count("}")


def test_a_legend_shows_labels_that_its_query_leaves():
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            (kept,) = set(re.findall(r"by \(([^)]*)\)", target["expr"]))
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= set(kept.split(", "))


def test_the_documentation_has_the_same_names_and_labels():
    rows = re.findall(r"^\| `(ray_\w+)` \| ([^|]*) \|", Path("docs/cluster.md").read_text(), re.M)
    assert {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows} == EXPORTED


def test_counts_go_up_only_and_begin_with_this_run(recorded):
    metrics = Metrics("cats")
    for done, failed, filtered in [(40, 0, 0), (50, 2, 1), (45, 1, 1), (60, 2, 1)]:  # a worker died, and back
        metrics.update({**STATUS, "done": done, "failed": failed, "filtered": filtered, "seconds": {"load": 3.5}}, 7)
    images = {key[-1]: value for key, value in recorded.items() if key[0] == "lightmill_images"}
    assert images == {"ok": 17, "failed": 2, "filtered": 1}
    assert recorded["lightmill_seconds", "cats", "load"] == 3.5
    assert recorded["lightmill_images_left", "cats"] == 40
    assert recorded["lightmill_shards_waiting", "cats"] == 7
    assert recorded["lightmill_workers", "cats", "awaited"] == 2
