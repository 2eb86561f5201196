"""The training loop of every part: a learning rate that cools down, averaged weights, and a place to go on from."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from training.parallel import Replicas

LossOf = Callable[[torch.nn.Module, torch.Generator], torch.Tensor]


@dataclass(frozen=True)
class Plan:
    """How long and how fast one part learns."""

    name: str
    steps: int
    rate: float
    warmup: int
    cooling: int
    decay: float
    weight_decay: float = 0.0
    save_every: int = 100


def train(model: torch.nn.Module, loss_of: LossOf, plan: Plan, work: Path, *, seed: int, cores: int) -> torch.nn.Module:
    """Train the model to the plan's end, from its checkpoint where there is one, and return its averaged weights.

    What a step sees follows from the seed and the step's number alone: an interrupted training ends as an unbroken one.
    """
    path = work / f"{plan.name}.pt"
    replicas = Replicas(model.train(), cores)
    optimizer = torch.optim.AdamW(model.parameters(), lr=plan.rate, betas=(0.9, 0.99), weight_decay=plan.weight_decay)
    average = {name: value.detach().clone() for name, value in model.state_dict().items()}
    start = 0
    if path.exists():
        saved = torch.load(path, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        average, start = saved["average"], saved["step"]
    losses: list[float] = []
    begun = time.monotonic()
    for step in range(start, plan.steps):
        for group in optimizer.param_groups:
            group["lr"] = plan.rate * _pace(step, plan)

        def shard(replica: torch.nn.Module, number: int, step: int = step) -> torch.Tensor:
            return loss_of(replica, torch.Generator().manual_seed((seed * 1_000_003 + step) * 64 + number))

        losses.append(replicas.backward(shard))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        _follow(average, model, min(plan.decay, (step + 1) / (step + 10)))
        if (step + 1) % plan.save_every == 0 or step + 1 == plan.steps:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "average": average}
            _save({**state, "step": step + 1}, path)
            seconds = (time.monotonic() - begun) / (step + 1 - start)
            print(
                f"{plan.name} {step + 1}/{plan.steps} loss {sum(losses) / len(losses):.5f} {seconds:.3f} s/step",
                flush=True,
            )
            losses.clear()
    model.load_state_dict(average)
    return model.eval()


def load_average(model: torch.nn.Module, work: Path, name: str) -> torch.nn.Module:
    """The averaged weights of a part's last checkpoint, whether its training has ended or not."""
    model.load_state_dict(torch.load(work / f"{name}.pt", weights_only=True)["average"])
    return model.eval()


def _pace(step: int, plan: Plan) -> float:
    """Up, level, and down to nothing: but for where the way down begins, a longer plan starts as a shorter one does."""
    return min(1.0, (step + 1) / plan.warmup, (plan.steps - step) / plan.cooling)


@torch.no_grad()
def _follow(average: dict[str, torch.Tensor], model: torch.nn.Module, decay: float) -> None:
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            average[name].lerp_(value, 1 - decay)
        else:
            average[name].copy_(value)


def _save(state: dict[str, Any], path: Path) -> None:
    draft = path.with_suffix(".draft")
    torch.save(state, draft)
    draft.replace(path)
