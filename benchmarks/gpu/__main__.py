"""`make bench-gpu`: models of true size on one GPU, whole jobs with the pure loop, `pipe` + `save` and Ray Data.

`python -m benchmarks.gpu [--tiny] [--results FOLDER] [NAME ...]`. Names are those of the table; without one it is all
of them, sized for ten minutes on an H100. `--tiny` rehearses all of it with models in miniature, on the CPU where there
is no GPU; its figures mean nothing, and go nowhere but into the FOLDER. Weights lie in memory (/dev/shm) meanwhile,
where that is large enough. Where Ray is not installed, a job is a worker in this process, which its row says, and Ray
Data is left out. A model that fails is told of at the end, and the others go on.

Each model: weights made and loaded, the smallest batch that is nearly the fastest, then five rounds of the pure loop in
this process, three of them before and two after the programs: a job, whose five shards are its rounds, `pipe` + `save`,
whose rounds are its five batches, and Ray Data.
"""

import argparse
import gc
import importlib.util
import shutil
import tempfile
import time
import traceback
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks import goals
from benchmarks.baselines.loops import thrown_away
from benchmarks.baselines.painters import Engine, Pipe
from benchmarks.baselines.task import Task
from benchmarks.contest import Contender, contest, looped, program, whole_job
from benchmarks.gpu import models
from benchmarks.gpu.models import MODELS, Model
from benchmarks.gpu.work import REACHABLE_TFLOPS, Speed, speeds, tflop_per_image
from benchmarks.solo_job import solo_job
from benchmarks.timing import RESULTS, print_table, write_results

ROUND_SECONDS = 3.0
NEARLY = 0.97
"""Of the fastest batch size: the smallest one that reaches so much is taken, whose rounds are the shortest."""
WINDOWS = 5
"""Shards of a job, and rounds of a loop."""
BEFORE, AFTER = 3, 2
ALL_WEIGHTS_BYTES = 40_000_000_000
"""SDXL's are 7 GB, those of Stable Diffusion 1.5, 2.1 and 2.1 once more 7, those of 3.5 with T5 16; and some room."""
HAS_RAY = importlib.util.find_spec("ray") is not None
SHOWN = ("model", "batch", "images/s", "TFLOP/s", "GiB", "job / pure loop", "job / pipe + save", "job / Ray Data")


def measure(model: Model, folder: Path, device: str, *, tiny: bool) -> dict[str, Any]:
    """All that is known of one model at the end."""
    task, batches = _task(model, folder, device, tiny=tiny), models.SMALL_BATCHES if tiny else model.batches
    tflop = tflop_per_image(Pipe(task), task)
    _make_room()
    began = time.perf_counter()
    engine = Engine(task)
    loaded = time.perf_counter() - began
    swept = speeds(engine, task, batches)
    best = next(speed for speed in swept if speed.rate >= NEARLY * max(each.rate for each in swept))
    images = best.batch * max(1, round((0.2 if tiny else ROUND_SECONDS) * best.rate / best.batch))
    row = _rounds(model, replace(task, batch=best.batch, images=images), engine)
    return {
        "model": model.name,
        "device": device,
        "card": torch.cuda.get_device_name() if device == "cuda" else "CPU",
        "side": task.width,
        "steps": task.steps,
        "guidance": task.guidance,
        "batch": best.batch,
        "GiB": best.gib,
        "load s": loaded,
        "TFLOP": tflop,
        "TFLOP/s": tflop * row["images/s"],
        "of 790 TFLOP/s": tflop * row["images/s"] / REACHABLE_TFLOPS,
        **row,
        "batches": [_said(speed) for speed in swept],
    }


def _task(model: Model, folder: Path, device: str, *, tiny: bool) -> Task:
    side, steps = (models.SMALL_SIDE, models.SMALL_STEPS) if tiny else (model.side, model.steps)
    return Task(
        model=str(folder),
        folder=str(folder),
        images=1,
        width=side,
        height=side,
        steps=steps,
        guidance=model.guidance,
        dtype="bfloat16" if device == "cuda" else "float32",
        device=device,
        encoders=4,
    )


def _rounds(model: Model, task: Task, engine: Engine) -> dict[str, Any]:
    """Rates and ratios: the pure loop, then a job and its rivals, then the loop again."""
    loop = {"pure loop": looped(thrown_away, engine, task)}
    before = contest(loop, BEFORE)
    _make_room()
    programs = _programs(model, task)
    found = {name: outcomes[0] for name, outcomes in contest(programs, 1).items()}
    after = contest(loop, AFTER)
    pure = median(outcome.rate for outcome in before["pure loop"] + after["pure loop"])
    job = found["job"]
    of_job = median(job.windows)
    row = {
        "images/s": pure,
        "job images/s": of_job,
        "job start s": job.wall - job.steady,
        "job / pure loop": of_job / pure,
        "job seconds": dict(job.seconds),
        "job has Ray": HAS_RAY,
    }
    if script := found.get("pipe + save"):
        of_script = median(script.windows)
        row |= {"pipe + save images/s": of_script, "job / pipe + save": of_job / of_script}
    if rival := found.get("Ray Data"):
        row |= {"Ray Data images/s": rival.rate, "job / Ray Data": job.rate / rival.rate}
    return row


def _programs(model: Model, task: Task) -> dict[str, Contender]:
    """A job, and what a goal compares it with."""
    whole = replace(task, images=WINDOWS * task.images)
    programs: dict[str, Contender] = {"job": (whole_job if HAS_RAY else solo_job)(whole, shard_size=task.images)}
    if "save" in model.rivals:
        programs["pipe + save"] = program("script", replace(task, images=WINDOWS * task.batch))
    if "ray" in model.rivals and HAS_RAY:
        programs["Ray Data"] = program("ray_tuned", whole)
    return programs


def _said(speed: Speed) -> dict[str, float]:
    return {"batch": speed.batch, "images/s": speed.rate, "GiB": speed.gib}


def _make_room() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def still_to_be_taken() -> list[str]:
    """Goals of which nobody has the figure."""
    return [goal.measure for goal in goals.GOALS if goal.result == "gpu" and goal.measured() is None]


def main() -> None:
    """Measure, print, write, say what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(model.name for model in MODELS))
    parser.add_argument("--tiny", action="store_true", help="models in miniature")
    parser.add_argument("--results", type=Path, help="a folder for gpu.json")
    words = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not words.tiny:
        parser.exit(2, f"no GPU is here. Still to be taken on one:\n  {chr(10).join(still_to_be_taken())}\n")
    folder = words.results or (None if words.tiny else RESULTS)
    rows, failed = [], []
    with tempfile.TemporaryDirectory(dir=_memory(), prefix="lightmill-gpu-") as place:
        for model in [model for model in MODELS if not words.names or model.name in words.names]:
            print(f"\n== {model.name}", flush=True)
            began = time.perf_counter()
            try:
                weights = _weights(model, Path(place), device, tiny=words.tiny)
                rows.append(measure(model, weights, device, tiny=words.tiny))
            except Exception:  # noqa: BLE001  whatever it is, the other models have figures, too
                traceback.print_exc()
                failed.append(model.name)
            _make_room()
            print(f"  {time.perf_counter() - began:.0f} s", flush=True)
            if folder and rows:
                write_results("gpu", rows, by=["model"], folder=folder)
    print_table([{name: row.get(name, "-") for name in SHOWN} for row in rows])
    if missing := still_to_be_taken():
        print("\nstill to be taken on a GPU:", *missing, sep="\n  ")
    if failed:
        parser.exit(1, f"failed: {', '.join(failed)}\n")


def _weights(model: Model, place: Path, device: str, *, tiny: bool) -> Path:
    """Its folder, made where no model before it had the same."""
    folder = place / model.weights
    if not folder.exists():
        began = time.perf_counter()
        models.save(model.weights, Path(f"{folder}-draft"), device, tiny=tiny).rename(folder)
        print(f"  weights made in {time.perf_counter() - began:.1f} s", flush=True)
    return folder


def _memory() -> Path | None:
    """Where the weights of all models have room in memory. Containers often have 64 MB of it."""
    shared = Path("/dev/shm")
    return shared if shared.is_dir() and shutil.disk_usage(shared).free > ALL_WEIGHTS_BYTES else None


if __name__ == "__main__":
    main()
