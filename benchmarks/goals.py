"""Goals: what must be reached, what is aimed at, and what was measured, as one table.

`python -m benchmarks.goals` prints it from the newest results; with `docs` it also puts it into docs/performance.md.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.timing import RESULTS, print_table

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
BEGIN, END = "<!-- goals: begin -->\n", "<!-- goals: end -->"
Find = Callable[[dict[str, Any]], float]


@dataclass(frozen=True, slots=True)
class Goal:
    """One line of the table. Ratios are of images, rows or bytes a second."""

    measure: str
    must: float
    aim: float
    result: str
    """The benchmark that measures it."""
    find: Find
    """Where in its results the figure is."""
    unit: str = ""

    @property
    def at_most(self) -> bool:
        """Whether less is better."""
        return self.aim < self.must

    def measured(self) -> float | None:
        """The figure, or None where nobody has taken it."""
        path = RESULTS / f"{self.result}.json"
        try:
            return float(self.find(json.loads(path.read_text())))
        except (OSError, LookupError):
            return None

    def reached(self, measured: float | None) -> str:
        """In one word or two."""
        if measured is None:
            return "not taken yet"
        sign = -1 if self.at_most else 1
        if sign * measured >= sign * self.aim:
            return "aim"
        return "must" if sign * measured >= sign * self.must else "no"

    def say(self, value: float | None) -> str:
        """A value in its unit."""
        if value is None:
            return "-"
        if self.unit == "%":
            return f"{100 * value:.3g} %"
        return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def figure(name: str) -> Find:
    """Of those that the benchmark names itself."""
    return lambda document: float(document["figures"][name])


def cell(column: str, **wanted: object) -> Find:
    """Of the only row that has these."""

    def find(document: dict[str, Any]) -> float:
        rows = (row for row in document["rows"] if all(row.get(name) == value for name, value in wanted.items()))
        row = next(rows, None)
        if row is None:
            raise LookupError(wanted)
        return float(row[column])

    return find


def on_gpu(model: str, column: str) -> Find:
    """Of a model's row that was measured on a GPU: those of a rehearsal count for nothing."""
    return cell(column, model=model, device="cuda")


GOALS = (
    Goal("whole job / pure loop, demo model", 0.97, 0.99, "demo_job", figure("whole job / pure loop")),
    Goal("whole job / pipe(list) + save(png), demo model", 1.02, 1.10, "demo_job", figure("whole job / pipe + save")),
    Goal(
        "whole job with start-up / Ray Data done well, demo model, 1,000 images",
        *(1.05, 1.2, "demo_job"),
        figure("whole job with start-up / Ray Data done well"),
    ),
    Goal(
        "no model, 1024 px: whole job / Ray Data's example",
        2,
        4,
        "null_job",
        figure("whole job / Ray Data, its example"),
    ),
    Goal(
        "no model, 1024 px: whole job / Ray Data done well",
        1.05,
        1.3,
        "null_job",
        figure("whole job / Ray Data done well"),
    ),
    Goal(
        "48 ms an image, 1024 px: whole job / loop + Pillow save(png)",
        4,
        7,
        "paced_job",
        figure("whole job / loop + save"),
    ),
    Goal(
        "48 ms an image: producer waiting, share of the wall",
        0.005,
        0.001,
        "paced_job",
        figure("producer waiting"),
        "%",
    ),
    *(
        Goal(
            f"no model, {size} px to {place}, WebP: what a worker writes / {other}",
            *(must, aim, "data_path"),
            cell("ratio", to=to, format="webp", size=size),
        )
        for size, to, place, other, must, aim in (
            (512, "folder", "a folder", "a pool of threads of the same encoder", 0.90, 0.95),
            (1024, "folder", "a folder", "a pool of threads of the same encoder", 0.95, 0.98),
            (512, "s3", "S3 on loopback", "the slower of encoding and uploading alone", 0.80, 0.90),
            (1024, "s3", "S3 on loopback", "the slower of encoding and uploading alone", 0.90, 0.95),
        )
    ),
    Goal(
        "PNG of 1024 px on one core / Pillow's default",
        *(10, 30, "encoders"),
        cell("times faster", format="png", size=1024, encoder="ours: Sub, ISA-L level 1, window 2 bytes"),
    ),
    Goal("control plane, the smallest images: rows/s", 10_000, 30_000, "control_plane", cell("rows/s", workers=2)),
    Goal("parquet sink / pyarrow's defaults", 5, 8, "parquet_sink", cell("container", images="png, 1024 px")),
    *(
        Goal(f"GPU, {model}: whole job / pure loop", 0.98, 0.99, "gpu", on_gpu(model, "job / pure loop"))
        for model in ("SDXL", "SD 2.1", "SD 2.1 base")
    ),
    Goal("GPU, SDXL: share of 790 TFLOP/s", 0.5, 0.65, "gpu", on_gpu("SDXL", "of 790 TFLOP/s"), "%"),
    *(
        Goal(f"GPU, {model}: whole job / pipe(list) + save", must, aim, "gpu", on_gpu(model, "job / pipe + save"))
        for model, must, aim in (("SDXL", 1.4, 1.8), ("SD 1.5", 1.5, 2.2), ("SDXL, 4 steps", 2.5, 5.0))
    ),
    *(
        Goal(f"GPU, {model}: whole job / Ray Data done well", must, aim, "gpu", on_gpu(model, "job / Ray Data"))
        for model, must, aim in (("SDXL", 1.1, 1.2), ("SDXL, 4 steps", 1.5, 2.5))
    ),
)


def lines() -> list[dict[str, Any]]:
    """The table."""
    table = []
    for goal in GOALS:
        measured = goal.measured()
        values = {"must": goal.say(goal.must), "aim": goal.say(goal.aim), "measured": goal.say(measured)}
        table.append({"measure": goal.measure, **values, "reached": goal.reached(measured), "by": goal.result})
    return table


def markdown(table: list[dict[str, Any]]) -> str:
    """As a page has it."""
    head = list(table[0])
    rows = [
        head,
        ["---"] * len(head),
        *([f"`{row[name]}`" if name == "by" else row[name] for name in head] for row in table),
    ]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def with_table(page: str, table: list[dict[str, Any]]) -> str:
    """The page, with this table in the place of the one it had."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{markdown(table)}\n{END}{after}"


def main(words: list[str]) -> None:
    """Print, and write where asked to."""
    table = lines()
    print_table(table)
    if "docs" in words:
        PAGE.write_text(with_table(PAGE.read_text(), table))


if __name__ == "__main__":
    main(sys.argv[1:])
