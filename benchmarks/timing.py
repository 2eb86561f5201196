"""How benchmarks measure: candidates take turns within one run, and the median counts."""

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
LIBRARIES = ("torch", "diffusers", "transformers", "ray", "pyarrow", "Pillow", "numpy", "accelerate")


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


def write_results(
    name: str, rows: list[dict[str, Any]], figures: Mapping[str, float] | None = None, folder: Path = RESULTS
) -> None:
    """`results/<name>.json`: where, when and with what it was measured, and what came of it.

    `figures` are those that a goal is set for, by the name that `benchmarks.goals` has for them.
    """
    folder.mkdir(exist_ok=True)
    document = {
        "machine": machine(),
        "python": platform.python_version(),
        "versions": _versions(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": f"python -m benchmarks {' '.join([name, *sys.argv[1:]])}",
        "rows": rows,
        **({"figures": dict(figures)} if figures is not None else {}),
    }
    (folder / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n")


def machine() -> dict[str, Any]:
    """What it was measured on, and how busy that was otherwise: the load average as the benchmark ended."""
    names = {line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")}
    return {
        "processor": ", ".join(sorted(names)) or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 2),
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def _versions() -> dict[str, str]:
    found = {}
    for library in LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return found


def print_table(rows: list[dict[str, Any]]) -> None:
    """The rows under the names of their columns."""
    columns = list(rows[0])
    text = [[_cell(row[column]) for column in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *text, strict=True)]
    for first, *others in [columns, *text]:
        cells = [first.ljust(widths[0]), *map(str.rjust, others, widths[1:])]
        print("  ".join(cells), flush=True)


def _cell(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)
