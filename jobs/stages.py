"""Stages: what follows for a model from its place in a row of stages, told before anything is generated."""

import dataclasses
from collections.abc import Iterator, Sequence
from itertools import pairwise

from actors.errors import InputError, Problem
from actors.models.facts import ModelFacts
from actors.models.kinds import Task
from actors.models.tasks import UPSCALE, refuse_as_later, refuse_idle_columns, refuse_without_inputs, too_large
from actors.orders import misfit_size, no_step
from actors.settings import MAX_SIDE
from jobs.spec import JobSpec


def refuse_task(spec: JobSpec, lane: int, known: ModelFacts | None) -> None:
    """Raise `InputError` where the task of a lane lacks what it needs: LM1209 a column of the table, LM1211 of a later
    stage that it makes one image of another; and LM1210 where a column would steer no stage.

    `known` is None where nobody can look at the model from here.
    """
    settings = spec.lanes[lane]
    own: Task = "image-to-image" if settings.of_images else "text-to-image"
    task = known.task if known else settings.task or own
    if spec.stages and lane:
        refuse_as_later(settings.model, task)
        return
    refuse_without_inputs(settings.model, task, spec.overrides)
    if spec.stages and known:
        refuse_idle_columns(task, spec.overrides)


def sized(facts: Sequence[ModelFacts], spec: JobSpec) -> list[ModelFacts]:
    """The facts of all lanes, with the sizes that later stages have from those before.

    Raises `InputError` (LM1211) for sizes that no image has, unless rows have sizes of their own.
    """
    chain = list(facts)
    for before, here in pairwise(range(len(chain) if spec.stages else 0)):
        settings, wider = spec.lanes[here], UPSCALE if chain[here].task == "upscale" else 1
        width, height = chain[before].width * wider, chain[before].height * wider
        if wider == 1:
            width, height = settings.width or width, settings.height or height
        if max(width, height) > MAX_SIDE and not {"width", "height"} & set(spec.overrides):
            raise InputError(too_large(settings.model, width, height))
        chain[here] = dataclasses.replace(chain[here], width=width, height=height)
    return chain


def misfits(chain: Sequence[ModelFacts], spec: JobSpec) -> Iterator[Problem]:
    """What each row of a lane would fail of, where the job itself says it, and no column of the table says otherwise.

    `chain` are the facts of all lanes, as `sized` has them.
    """
    columns = set(spec.overrides)
    for lane, known in enumerate(chain):
        where = f"{'stages' if spec.stages else 'models'}[{lane}]"
        if not columns & {"width", "height"} and (problem := misfit_size(known.width, known.height, known)):
            yield dataclasses.replace(problem, where=where)
        steered = columns & {"strength", "num_inference_steps"} and not (spec.stages and lane)
        strength, steps = known.strength, known.num_inference_steps
        if not steered and strength and steps and (problem := no_step(strength, steps)):
            yield dataclasses.replace(problem, where=where)
