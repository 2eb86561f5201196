"""How benchmarks measure: candidates take turns within one run, and the median counts."""

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from actors.machine import processors

RESULTS = Path(__file__).parent / "results"
LIBRARIES = ("torch", "diffusers", "transformers", "ray", "pyarrow", "Pillow", "numpy", "accelerate")


Candidates = Mapping[str, Callable[[], object]]


def interleaved(candidates: Candidates, rounds: int, first: Candidates | None = None) -> dict[str, list[float]]:
    """Seconds of every round of every candidate, after one round that does not count, in which they may do less.

    Candidates take turns, each round in the opposite order, so that a machine that slows down slows down all of them.
    """
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(rounds + 1):
        for name in list(candidates)[:: 1 if number % 2 else -1]:
            began = time.perf_counter()
            (candidates if number else first or candidates)[name]()
            if number:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def write_results(
    name: str,
    rows: list[dict[str, Any]],
    figures: Mapping[str, float] | None = None,
    *,
    by: Sequence[str] = (),
    folder: Path = RESULTS,
) -> None:
    """`results/<name>.json`: where, when and with what it was measured, and what came of it.

    `figures` are those that a goal is set for, by the name that `benchmarks.goals` has for them. `by` are columns that
    tell rows from each other: those of an earlier run that this one did not measure then stay, and each has its date.
    """
    folder.mkdir(exist_ok=True)
    path, date = folder / f"{name}.json", datetime.now(UTC).isoformat(timespec="seconds")
    document = {
        "machine": machine(),
        "python": platform.python_version(),
        "versions": _versions(),
        "date": date,
        "command": f"python -m benchmarks {' '.join([name, *sys.argv[1:]])}",
        "rows": beside_earlier(path, [{**row, "date": date} for row in rows], by) if by else rows,
        **({"figures": dict(figures)} if figures is not None else {}),
    }
    path.write_text(json.dumps(document, indent=2) + "\n")


def beside_earlier(path: Path, rows: list[dict[str, Any]], by: Sequence[str]) -> list[dict[str, Any]]:
    """These rows, after those of the file that none of them replaces."""
    found: dict[str, Any] = {"rows": []}
    with suppress(FileNotFoundError):
        found = json.loads(path.read_text())
    new = {tuple(row[column] for column in by) for row in rows}
    kept = [row for row in found["rows"] if tuple(row[column] for column in by) not in new]
    return [*({"date": found["date"], **row} for row in kept), *rows]


def machine() -> dict[str, Any]:
    """What it was measured on, and how busy that was otherwise: the load average as the benchmark ended."""
    names = {line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")}
    return {
        "processor": ", ".join(sorted(names)) or platform.processor() or platform.machine(),
        "cores": processors(),
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
