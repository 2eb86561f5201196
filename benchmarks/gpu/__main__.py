"""`make bench-gpu`: models of true size on one GPU, whole jobs with the pure loop, `pipe` + `save` and Ray Data.

`python -m benchmarks.gpu [--tiny] [--results FOLDER] [NAME ...]`. Names are those of the table; without one it is all
of them, sized for ten minutes on an H100. `--tiny` rehearses all of it with models in miniature, on the CPU where there
is no GPU; its figures mean nothing, and go nowhere but into the FOLDER. Weights lie in memory (/dev/shm) meanwhile.
Where Ray is not installed, a job is a worker in this process, which its row says, and Ray Data is left out.

Each model: weights made and loaded, the smallest batch that is nearly the fastest, then five rounds of the loops in
this process, three of them before and two after one job and one Ray Data program of five such lengths. A job's five
shards are its rounds.
"""

import argparse
import gc
import importlib.util
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks import goals
from benchmarks.baselines.loops import saved, thrown_away
from benchmarks.baselines.painters import Engine, Pipe
from benchmarks.baselines.task import Task
from benchmarks.contest import Contender, Outcome, contest, looped, program, whole_job
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
SHOWN = ("model", "batch", "images/s", "TFLOP/s", "GiB", "job / pure loop", "job / pipe + save", "job / Ray Data")


def measure(model: Model, folder: Path, device: str, *, tiny: bool) -> dict[str, Any]:
    """All that is known of one model at the end."""
    task, batches = _task(model, folder, device, tiny=tiny), models.SMALL_BATCHES if tiny else model.batches
    pipe = Pipe(task)
    tflop = tflop_per_image(pipe, task)
    pipe.task = task
    began = time.perf_counter()
    engine = Engine(task)
    loaded = time.perf_counter() - began
    swept = speeds(engine, task, batches)
    best = next(speed for speed in swept if speed.rate >= NEARLY * max(each.rate for each in swept))
    images = best.batch * max(1, round((0.2 if tiny else ROUND_SECONDS) * best.rate / best.batch))
    row = _rounds(model, replace(task, batch=best.batch, images=images), engine, pipe)
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


def _rounds(model: Model, task: Task, engine: Engine, pipe: Pipe) -> dict[str, Any]:
    """Rates and ratios: loops, then a job and its rival, then loops again."""
    loops: dict[str, Contender] = {"pure loop": looped(thrown_away, engine, task)}
    if "save" in model.rivals:
        loops["pipe + save"] = looped(saved, pipe, replace(task, images=task.batch))
    whole = replace(task, images=WINDOWS * task.images)
    has_ray = importlib.util.find_spec("ray") is not None
    programs: dict[str, Contender] = {"job": (whole_job if has_ray else solo_job)(whole, shard_size=task.images)}
    if "ray" in model.rivals and has_ray:
        programs["Ray Data"] = program("ray_tuned", whole)
    before = contest(loops, BEFORE)
    _make_room()
    (job,), *rival = contest(programs, 1).values()
    after = contest(loops, AFTER)
    rates = {name: median(outcome.rate for outcome in before[name] + after[name]) for name in loops}
    of_job = median(_windows(job))
    row = {
        "images/s": rates["pure loop"],
        "job images/s": of_job,
        "job start s": job.wall - job.steady,
        "job / pure loop": of_job / rates["pure loop"],
        "job seconds": dict(job.seconds),
        "job has Ray": has_ray,
    }
    if "pipe + save" in rates:
        row |= {"pipe + save images/s": rates["pipe + save"], "job / pipe + save": of_job / rates["pipe + save"]}
    if rival:
        ((other,),) = rival
        row |= {"Ray Data images/s": other.rate, "job / Ray Data": job.rate / other.rate}
    return row


def _windows(job: Outcome) -> list[float]:
    """Images a second between one commit and the next."""
    ends = [0.0, *(when for when, _ in job.commits)]
    return [images / (ends[n + 1] - ends[n]) for n, (_, images) in enumerate(job.commits)]


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
    shared = Path("/dev/shm")
    rows = []
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None, prefix="lightmill-gpu-") as place:
        for model in [model for model in MODELS if not words.names or model.name in words.names]:
            print(f"\n== {model.name}", flush=True)
            began = time.perf_counter()
            weights = Path(place) / model.weights
            if not weights.exists():
                models.save(model.weights, weights, device, tiny=words.tiny)
                print(f"  weights made in {time.perf_counter() - began:.1f} s", flush=True)
            rows.append(measure(model, weights, device, tiny=words.tiny))
            _make_room()
            print(f"  {time.perf_counter() - began:.0f} s", flush=True)
            if folder:
                write_results("gpu", rows, by=["model"], folder=folder)
    print_table([{name: row.get(name, "-") for name in SHOWN} for row in rows])
    if missing := still_to_be_taken():
        print("\nstill to be taken on a GPU:", *missing, sep="\n  ")


if __name__ == "__main__":
    main()
