"""Plots of the newest results: `python -m benchmarks.plots` writes docs/images/*.svg of what has been measured."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams.update({"svg.hashsalt": "lightmill", "svg.fonttype": "path", "font.size": 9, "axes.spines.top": False})
mpl.rcParams.update({"axes.spines.right": False, "figure.facecolor": "white"})

from matplotlib import pyplot as plt  # noqa: E402 - after the backend is chosen

from benchmarks import goals  # noqa: E402
from benchmarks.timing import RESULTS  # noqa: E402

IMAGES = Path(__file__).parent.parent / "docs" / "images"
COLOURS = {"aim": "#2a7f4f", "must": "#7fb069", "no": "#c8553d"}
RATE = "images/s"


def main() -> None:
    """All of which there are results."""
    IMAGES.mkdir(exist_ok=True)
    draw_goals(IMAGES / "goals.svg")
    for name, draw in PLOTS.items():
        path = RESULTS / f"{name}.json"
        if path.exists():
            draw(json.loads(path.read_text())["rows"], IMAGES / f"{name.replace('_', '-')}.svg")


def draw_goals(path: Path) -> None:
    """How far each figure is from what it must be, in times."""
    found = [(goal, value) for goal in goals.GOALS if (value := goal.measured()) is not None]
    if not found:
        return
    figure, axes = plt.subplots(figsize=(9, 0.36 * len(found) + 1.1))
    for place, (goal, value) in enumerate(reversed(found)):
        times = goal.must / max(value, 1e-6) if goal.at_most else value / goal.must
        aim = goal.must / goal.aim if goal.at_most else goal.aim / goal.must
        shown = min(times, 100)
        axes.barh(place, shown, color=COLOURS[goal.reached(value)], height=0.62)
        axes.plot([aim, aim], [place - 0.4, place + 0.4], color="black", linewidth=1.4)
        axes.text(max(shown, aim) * 1.04, place, goal.say(value), va="center")
    axes.axvline(1, color="black", linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    axes.set_xlim(0.3, 200)
    axes.set_xticks([0.5, 1, 2, 5, 10, 20, 50, 100], ["½", "1", "2", "5", "10", "20", "50", "100"])
    axes.set_yticks(range(len(found)), [goal.measure for goal, _ in reversed(found)])
    axes.set_xlabel("measured, in times of what it must be (dotted); the black line is what is aimed at")
    _save(figure, path)


def draw_growth(rows: list[dict[str, Any]], path: Path) -> None:
    """A panel for each thing that is varied."""
    kinds = list(dict.fromkeys(row["against"] for row in rows))
    figure, panels = plt.subplots(1, len(kinds), figsize=(2.7 * len(kinds), 2.6), squeeze=False)
    for axes, kind in zip(panels[0], kinds, strict=True):
        points = [row for row in rows if row["against"] == kind]
        values = [row["value"] for row in points]
        axes.plot(values, [row[RATE] for row in points], "o-", color="#2a7f4f", label="start-up excluded")
        axes.plot(values, [row["with start-up"] for row in points], "o--", color="#8d99ae", label="with start-up")
        axes.set_xscale("log")
        axes.minorticks_off()
        axes.set_xticks(values, [f"{value // 1000}k" if value >= 1000 else str(value) for value in values])
        axes.set_ylim(bottom=0)
        axes.set_xlabel(kind)
    panels[0][0].set_ylabel(RATE)
    panels[0][0].legend(frameon=False, fontsize=7)
    _save(figure, path)


def draw_memory(rows: list[dict[str, Any]], path: Path) -> None:
    """Resident memory over the images that were made."""
    samples = [sample for sample in rows[-1]["samples"] if sample["images"]]
    figure, axes = plt.subplots(figsize=(5, 2.6))
    for role, colour in (("worker", "#2a7f4f"), ("driver", "#8d99ae")):
        points = [(sample["images"], sample[role]) for sample in samples if sample[role]]
        axes.plot(*zip(*points, strict=True), color=colour, label=role)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("images committed")
    axes.set_ylabel("resident, MiB")
    axes.legend(frameon=False)
    _save(figure, path)


def draw_batches(rows: list[dict[str, Any]], path: Path) -> None:
    """The pure loop of each model on a GPU, by batch size, in times of one image at a time."""
    rows = [row for row in rows if row["device"] == "cuda"]
    if not rows:
        return
    figure, axes = plt.subplots(figsize=(5, 3))
    for row in rows:
        swept = row["batches"]
        axes.plot(
            [one["batch"] for one in swept], [one[RATE] / swept[0][RATE] for one in swept], "o-", label=row["model"]
        )
    axes.set_xscale("log", base=2)
    axes.set_xlabel("images in a batch")
    axes.set_ylabel("times as many images/s as one by one")
    axes.legend(frameon=False, fontsize=7)
    _save(figure, path)


def _save(figure: "plt.Figure", path: Path) -> None:
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    print(f"wrote {path.relative_to(IMAGES.parents[1])}", flush=True)


PLOTS: dict[str, Callable[[list[dict[str, Any]], Path], None]] = {
    "growth": draw_growth,
    "flat_memory": draw_memory,
    "gpu": draw_batches,
}

if __name__ == "__main__":
    main()
