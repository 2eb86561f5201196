"""Work: how many multiplications an image takes, how fast each batch size does them, and in how much memory."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from actors.errors import OutOfMemory
from benchmarks.baselines.painters import Engine, Pipe
from benchmarks.baselines.task import Task

REACHABLE_TFLOPS = 790.0
"""bfloat16 matrix products of an H200, as measured; other cards have less."""
FEW, MORE = 2, 4
"""Steps: what a step costs is the difference, and what is done once an image is the rest."""


@dataclass(frozen=True, slots=True)
class Speed:
    """One batch size."""

    batch: int
    rate: float
    """Images a second, of the pure loop."""
    gib: float


def tflop_per_image(pipe: Pipe, task: Task) -> float:
    """Of text encoders, denoiser with its guidance, and decoder: counted by torch as diffusers runs them."""
    few, more = (_counted(pipe, replace(task, steps=steps)) for steps in (FEW, MORE))
    step = (more - few) / (MORE - FEW)
    return few - FEW * step + task.steps * step


def _counted(pipe: Pipe, task: Task) -> float:
    pipe.task = task
    with FlopCounterMode(display=False) as counter:
        pipe.pixels(["counted"], [0])
    return float(counter.get_total_flops()) / 1e12


def speeds(engine: Engine, task: Task, batches: tuple[int, ...]) -> list[Speed]:
    """Of every batch size, up to the first that does not fit."""
    found = []
    for batch in batches:
        try:
            found.append(_speed(engine, task, batch))
        except OutOfMemory:
            print(f"  a batch of {batch} does not fit", flush=True)
            break
        print(f"  batch {batch}: {found[-1].rate:.2f} images/s, {found[-1].gib:.1f} GiB", flush=True)
    return found


def _speed(engine: Engine, task: Task, batch: int) -> Speed:
    """From two short passes of different steps, after one that warms up."""
    prompts, seeds = [f"number {n}" for n in range(batch)], list(range(batch))
    on_gpu = task.device == "cuda"
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    seconds = {}
    for steps in (FEW, FEW, MORE):
        engine.task = replace(task, steps=steps)
        seconds[steps] = _timed(lambda: engine.pixels(prompts, seeds))
    step = max(0.0, (seconds[MORE] - seconds[FEW]) / (MORE - FEW))
    whole = seconds[FEW] + (task.steps - FEW) * step
    gib = torch.cuda.max_memory_allocated() / 2**30 if on_gpu else 0.0
    engine.task = task
    return Speed(batch, batch / whole, gib)


def _timed(act: Callable[[], Any]) -> float:
    """Pixels are in host memory when it returns, so there is nothing left to wait for."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began
