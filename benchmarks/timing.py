"""How benchmarks measure: candidates take turns within one run, and the median counts."""

import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def interleaved(candidates: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every round of every candidate, after one round that does not count.

    Candidates take turns, each round in the opposite order, so that a machine that slows down slows down all of them.
    """
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(rounds + 1):
        for name in list(candidates)[:: 1 if number % 2 else -1]:
            began = time.perf_counter()
            candidates[name]()
            if number:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def write_results(name: str, rows: list[dict[str, Any]]) -> None:
    """`results/<name>.json`: the machine, and the figures."""
    RESULTS.mkdir(exist_ok=True)
    machine = {"processor": platform.processor() or platform.machine(), "cores": len(os.sched_getaffinity(0))}
    document = {"machine": machine, "python": platform.python_version(), "rows": rows}
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n")


def print_table(rows: list[dict[str, Any]]) -> None:
    """The rows under the names of their columns."""
    columns = list(rows[0])
    text = [[_cell(row[column]) for column in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *text, strict=True)]
    for first, *others in [columns, *text]:
        cells = [first.ljust(widths[0]), *map(str.rjust, others, widths[1:])]
        print("  ".join(cells))


def _cell(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)
