"""Additions: a VAE, LoRAs and embeddings that a job puts into a pipeline, and the layers that it skips."""

import inspect
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import diffusers
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from actors.errors import InputError, Problem
from actors.models.folder import read_json
from actors.models.settings import LoraSettings, ModelSettings, TextualInversionSettings, WeightsSettings
from actors.models.trust import has_pickles, verify, weights_sha256
from actors.models.weights import arrive


def add(pipeline: diffusers.DiffusionPipeline, settings: ModelSettings, dtype: torch.dtype) -> dict[str, Any]:
    """Put everything in, and tell what it was, for the recipe. Raises `InputError`: LM1220 another file than the job
    names, LM1222 it does not go with this model."""
    recipe: dict[str, Any] = {}
    if settings.vae:
        recipe["vae"] = _identity(settings.vae)
        with _blaming("vae", settings.vae):
            pipeline.vae = _vae(pipeline, arrive(settings.vae, "vae"), dtype)
    if settings.loras:
        recipe["loras"] = [{**_identity(lora), "weight": lora.weight} for lora in settings.loras]
        _add_loras(pipeline, settings.loras)
    if settings.textual_inversions:
        recipe["textual_inversions"] = [
            {**_identity(one), "tokens": _add_inversion(pipeline, one)} for one in settings.textual_inversions
        ]
    if settings.clip_skip:
        recipe["clip_skip"] = settings.clip_skip
        _prepare_skip(pipeline, settings.clip_skip)
    if settings.prompt_encoding == "weighted":
        recipe["prompt_encoding"] = {"name": "weighted", "compel": version("compel")}
    return recipe


def _identity(settings: WeightsSettings) -> dict[str, Any]:
    path = arrive(settings)
    verify(settings, path)
    named = settings.model_dump(include={"model", "file", "revision"}, exclude_none=True)
    return {**named, "sha256": weights_sha256(path)}


def _vae(pipeline: diffusers.DiffusionPipeline, path: Path, dtype: torch.dtype) -> torch.nn.Module:
    if path.is_file():
        # Built as the model's own, since a file of numbers does not say how.
        return _vae_from_file(pipeline, path, dtype)
    folder = path / "vae" if (path / "vae" / "config.json").is_file() else path
    is_tiny = read_json(folder / "config.json").get("_class_name") == "AutoencoderTiny"
    vae_class = diffusers.AutoencoderTiny if is_tiny else type(pipeline.vae)
    loaded: torch.nn.Module = vae_class.from_pretrained(
        str(folder), local_files_only=True, use_safetensors=_use_safetensors(path), dtype=dtype
    )
    return loaded


def _use_safetensors(path: Path) -> bool | None:
    """None, which lets diffusers choose, only for what the job permits."""
    return None if has_pickles(path) else True


def _vae_from_file(pipeline: diffusers.DiffusionPipeline, path: Path, dtype: torch.dtype) -> torch.nn.Module:
    with tempfile.TemporaryDirectory(prefix="lightmill-vae-") as config:
        pipeline.vae.save_config(config)
        loaded: torch.nn.Module = type(pipeline.vae).from_single_file(
            str(path), config=config, local_files_only=True, dtype=dtype
        )
    return loaded


def _add_loras(pipeline: diffusers.DiffusionPipeline, loras: tuple[LoraSettings, ...]) -> None:
    if not hasattr(pipeline, "load_lora_weights"):
        raise InputError(Problem("LM1222", f"{type(pipeline).__name__} takes none", where="loras", help="remove loras"))
    names = []
    for number, lora in enumerate(loras):
        names.append(f"lora{number}")
        with _blaming(f"loras[{number}]", lora), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Already found a `peft_config`")  # a second one is what was asked for
            path = arrive(lora)
            place, file = (path, None) if path.is_dir() else (path.parent, path.name)
            how = {"weight_name": file, "use_safetensors": _use_safetensors(path), "local_files_only": True}
            pipeline.load_lora_weights(str(place), adapter_name=names[-1], **how)
            # One for another model leaves no adapter behind, which only shows here.
            pipeline.set_adapters(names, [lora.weight for lora in loras[: len(names)]])


def _add_inversion(pipeline: diffusers.DiffusionPipeline, settings: TextualInversionSettings) -> list[str]:
    """Returns the tokens that the embedding brought."""
    before = set(pipeline.tokenizer.get_vocab())
    with _blaming("textual_inversions", settings):
        path = arrive(settings)
        if getattr(pipeline, "text_encoder_2", None) is None:
            how = {"use_safetensors": _use_safetensors(path), "local_files_only": True}
            pipeline.load_textual_inversion(str(path), token=settings.token, **how)
        else:
            _add_to_both(pipeline, path, settings.token)
    return sorted(set(pipeline.tokenizer.get_vocab()) - before)


def _add_to_both(pipeline: diffusers.DiffusionPipeline, path: Path, token: str | None) -> None:
    """SDXL: the file has an embedding for each of the two encoders."""
    embeddings = load_file(path)
    for name, suffix in (("clip_l", ""), ("clip_g", "_2")):
        pipeline.load_textual_inversion(
            embeddings[name],
            token=token or path.stem,
            text_encoder=getattr(pipeline, f"text_encoder{suffix}"),
            tokenizer=getattr(pipeline, f"tokenizer{suffix}"),
        )


def _prepare_skip(pipeline: diffusers.DiffusionPipeline, layers: int) -> None:
    """Make sure that the pipeline's own `clip_skip` works."""
    if "clip_skip" not in inspect.signature(type(pipeline).__call__).parameters:
        message = f"{type(pipeline).__name__} has no clip_skip"
        raise InputError(Problem("LM1222", message, where="clip_skip", help="leave it out"))
    encoder = pipeline.text_encoder
    if layers >= encoder.config.num_hidden_layers:
        message = f"the text encoder has only {encoder.config.num_hidden_layers} layers"
        raise InputError(Problem("LM1222", message, where="clip_skip", value=str(layers), help="skip fewer layers"))
    if not hasattr(encoder, "text_model"):
        # diffusers looks for the last norm there, and since 5.6 transformers has it in the encoder itself. As a plain
        # attribute: a submodule of itself could not be moved or saved.
        object.__setattr__(encoder, "text_model", encoder)


@contextmanager
def _blaming(field: str, settings: WeightsSettings) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, AttributeError, SafetensorError) as error:
        raise InputError(
            Problem(
                "LM1222",
                f"{settings.model} does not go with this model: {error}"[:500],
                where=field,
                help="use one that was made for this kind of model",
            )
        ) from error
