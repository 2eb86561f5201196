"""Pipelines: from files to a pipeline of diffusers, with whatever a job puts into it."""

import inspect
import pickle
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import torch
from safetensors import SafetensorError

from actors.errors import InputError, Problem
from actors.models import additions, sampling
from actors.models.configs import assemble
from actors.models.facts import ModelFacts
from actors.models.settings import ModelSettings
from actors.models.tasks import class_for
from actors.models.trust import has_pickles, verify


def load_pipeline(
    facts: ModelFacts, settings: ModelSettings, dtype: torch.dtype
) -> tuple[diffusers.DiffusionPipeline, dict[str, Any]]:
    """The pipeline on the CPU, and what of it is not the model's own, for the recipe.

    Raises `InputError`: LM1206 diffusers cannot load it, LM1220 the weights are others than the job names, LM1222
    something does not go with this model.
    """
    assert facts.folder is not None
    pipeline_class = _pipeline_class(facts)
    verify(settings, facts.weights)
    with _blaming(facts.weights, facts.pipeline or ""):
        pipeline = (
            _from_file(pipeline_class, facts, dtype) if facts.file else _from_folder(pipeline_class, facts, dtype)
        )
    pipeline.set_progress_bar_config(disable=True)
    as_known = sampling.set_known(pipeline, facts.card)
    recipe = {
        **({} if facts.task == "text-to-image" else {"task": facts.task}),
        **as_known,
        **({"config": facts.folder.name} if facts.file else {}),
        **additions.add(pipeline, settings, dtype),
        **sampling.set_scheduler(pipeline, settings.scheduler),
    }
    return pipeline, recipe


def parameters(pipeline_class: type[diffusers.DiffusionPipeline]) -> dict[str, Any]:
    """The parameters of a pipeline's `__call__`, with their defaults."""
    return {name: given.default for name, given in inspect.signature(pipeline_class.__call__).parameters.items()}


def _pipeline_class(facts: ModelFacts) -> type[diffusers.DiffusionPipeline]:
    name = class_for(facts.model, facts.pipeline, facts.task)
    assert name is not None
    pipeline_class = getattr(diffusers, name, None)
    if pipeline_class is None or {"prompt", "generator"} - parameters(pipeline_class).keys():
        raise InputError(
            Problem(
                "LM1206",
                f"{name} is not a pipeline of diffusers {diffusers.__version__} that reads prompts",
                where=str(facts.folder),
                help="use another, such as StableDiffusionPipeline",
            )
        )
    found: type[diffusers.DiffusionPipeline] = pipeline_class
    return found


def _from_folder(
    pipeline_class: type[diffusers.DiffusionPipeline], facts: ModelFacts, dtype: torch.dtype
) -> diffusers.DiffusionPipeline:
    assert facts.folder is not None
    # With pickles the job has permitted them: both libraries then read them with `weights_only`.
    use_safetensors = None if has_pickles(facts.folder) else True
    return pipeline_class.from_pretrained(
        str(facts.folder), local_files_only=True, use_safetensors=use_safetensors, dtype=dtype
    )


def _from_file(
    pipeline_class: type[diffusers.DiffusionPipeline], facts: ModelFacts, dtype: torch.dtype
) -> diffusers.DiffusionPipeline:
    assert facts.folder is not None
    with tempfile.TemporaryDirectory(prefix="lightmill-config-") as draft:
        config = assemble(facts.folder, facts.vocabulary, Path(draft) / facts.folder.name)
        pipeline = pipeline_class.from_single_file(
            str(facts.file), config=str(config), local_files_only=True, dtype=dtype
        )
    _refuse_gaps(pipeline)
    return pipeline


def _refuse_gaps(pipeline: diffusers.DiffusionPipeline) -> None:
    """Raise ValueError for a part of which the checkpoint had no numbers: diffusers leaves it without any."""
    for name, part in pipeline.components.items():
        if isinstance(part, torch.nn.Module):
            missing = [key for key, tensor in part.named_parameters() if tensor.is_meta]
            if missing:
                raise ValueError(f"{len(missing)} tensors of {name} are missing, such as {missing[0]}")


@contextmanager
def _blaming(place: Path, what: str) -> Iterator[None]:
    """Whatever a library raises while it reads this is the model's fault."""
    try:
        yield
    # SafetensorError: weights that are cut short, or a pointer of LFS.
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, pickle.UnpicklingError) as error:
        said = "some of its tensors are missing" if "meta tensor" in str(error) else error
        raise InputError(
            Problem(
                "LM1206",
                f"diffusers {diffusers.__version__} cannot load {what}: {said}"[:500],
                where=str(place),
                help="save the model again with `pipe.save_pretrained(folder)`",
            )
        ) from error
