"""Sampling: the model's scheduler in exchange for another, with all that it was trained for kept."""

import inspect
from collections.abc import Mapping
from typing import Any

import diffusers

from actors.errors import InputError, Problem
from actors.models.card import ModelCard
from actors.models.schedulers import FLOW, SCHEDULERS, Scheduler

TRAINED = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "prediction_type",
    "rescale_betas_zero_snr",
)
"""Settings of a scheduler that belong to the weights."""


def set_known(pipeline: diffusers.DiffusionPipeline, card: ModelCard | None) -> dict[str, Any]:
    """Make the pipeline's scheduler what its card says, which knows what weights do not: what they predict."""
    if card is None or (card.scheduler is None and card.prediction_type is None):
        return {}
    own = pipeline.scheduler
    name = card.scheduler.name if card.scheduler else type(own).__name__
    scheduler_class = getattr(diffusers, name, None)
    if scheduler_class is None:
        raise InputError(_unusable(name, f"diffusers {diffusers.__version__} has no {name}"))
    predicts = card.prediction_type if card.prediction_type != "flow_prediction" else None
    arguments = card.scheduler.arguments if card.scheduler else {}
    options = {**({"prediction_type": predicts} if predicts else {}), **arguments}
    if type(own) is scheduler_class and all(own.config.get(key) == value for key, value in options.items()):
        return {}
    pipeline.scheduler = scheduler_class.from_config(own.config, **options)
    return {"scheduler": {"name": name, **options}}


def set_scheduler(pipeline: diffusers.DiffusionPipeline, name: str | None) -> dict[str, Any]:
    """Exchange the pipeline's scheduler, and tell what is now there, for the recipe. Without a name nothing happens.

    Raises `InputError` (LM1222) where the model has to keep something that the scheduler does not know.
    """
    if name is None:
        return {}
    own = pipeline.scheduler
    if own.config.get("use_flow_sigmas") or own.config.get("prediction_type") == "flow_prediction":
        message = f"the model follows a flow in a way of its own ({type(own).__name__})"
        raise InputError(_unusable(name, message, "leave scheduler out"))
    chosen = _for_flow(name, own) if hasattr(own.config, "shift") else SCHEDULERS[name]
    scheduler_class = getattr(diffusers, chosen.class_name)
    if missing := [library for library in getattr(scheduler_class, "_backends", ()) if library != "torch"]:
        raise InputError(_unusable(name, f"{chosen.class_name} needs {', '.join(missing)}, which is not installed"))
    _refuse_loss(name, own.config, scheduler_class)
    pipeline.scheduler = scheduler_class.from_config(own.config, **chosen.options)
    kept = {
        setting: pipeline.scheduler.config.get(setting) for setting in ("prediction_type", "rescale_betas_zero_snr")
    }
    return {"scheduler": {"name": name, **chosen.options, **{name: value for name, value in kept.items() if value}}}


def _for_flow(name: str, own: Any) -> Scheduler:  # noqa: ANN401
    if name in FLOW:
        return Scheduler(FLOW[name])
    message = f"the model follows a flow ({type(own).__name__}), which is no business of {name}"
    raise InputError(_unusable(name, message, f"use {' or '.join(FLOW)}, or leave scheduler out"))


def _refuse_loss(name: str, config: Mapping[str, Any], scheduler_class: type) -> None:
    known = inspect.signature(scheduler_class.__init__).parameters  # type: ignore[misc]
    lost = [setting for setting in TRAINED if config.get(setting) and setting not in known]
    if lost:
        told = ", ".join(f"{setting}: {config[setting]}" for setting in lost)
        message = f"{scheduler_class.__name__} cannot keep what this model was trained with ({told})"
        raise InputError(_unusable(name, message, "use `euler`, `euler a`, `ddim`, `dpm++ 2m` or `unipc`"))


def _unusable(name: str, message: str, help_: str = "choose another scheduler") -> Problem:
    return Problem("LM1222", message, where="scheduler", value=name, help=help_)
