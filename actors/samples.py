"""The metadata rows of a shard's images, under the names of `SAMPLE_SCHEMA`."""

import functools
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from actors.errors import Problem
from actors.imprint import ALGORITHMIC, COMPOSITE, TRAINED
from actors.ingredients import Ingredient, InputFile, Parent
from actors.models.model import Images, ModelInfo
from actors.orders import Refusal
from actors.records import SAMPLE_SCHEMA, SCHEMA_VERSION, ImageRequest, Prompt, Shard, Status, carried_name

MOST_ERROR_TEXT = 500
"""Characters of an error that are kept: a CUDA error can be a page, and a shard may have a million rows."""

Row = dict[str, Any]


class SampleRows:
    """Makes the rows of one attempt at a shard: what they have in common is put together once."""

    def __init__(self, info: ModelInfo, shard: Shard, attempt: str, worker: str, stage: int | None = None) -> None:
        self._common: Mapping[str, Any] = {
            **dict.fromkeys(SAMPLE_SCHEMA.names),
            "schema_version": SCHEMA_VERSION,
            "lane": shard.lane,
            "model": info.model,
            "model_revision": info.model_revision,
            "weights_sha256": info.weights_sha256,
            "model_license": info.model_license,
            "model_tier": info.model_tier,
            "recipe": info.recipe,
            "scheduler": info.scheduler,
            "dtype": info.dtype,
            "threads": info.threads,
            "device": info.device,
            "stage": stage,
            "shard": shard.index,
            "attempt": attempt,
            "worker": worker,
            "lightmill_version": _version("lightmill"),
            "diffusers_version": _version("diffusers") if info.scheduler else None,
        }

    def made(self, request: ImageRequest, batch_size: int, seconds: float, images: Images, index: int) -> Row:
        """An image that came off the device, in a batch of so many that took `seconds` an image."""
        return {
            **self._of(request.prompt, "ok"),
            **_of_request(request),
            "recipe": _recipe(self._common["recipe"], request),
            "batch_size": batch_size,
            "generate_seconds": seconds,
            "prompt_truncated": images.prompt_truncated[index],
            "nsfw": images.nsfw[index],
            "nsfw_score": images.nsfw_score[index],
            "digital_source_type": self._source_type(request),
        }

    def failed(self, request: ImageRequest, problem: Problem, batch_size: int | None = None) -> Row:
        """An image that was tried."""
        row = {
            **self._of(request.prompt, "failed"),
            **_of_request(request),
            "recipe": _recipe(self._common["recipe"], request),
            "batch_size": batch_size,
        }
        return with_problem(row, "failed", problem)

    def refused(self, refusal: Refusal) -> Row:
        """An image that was never tried."""
        if refusal.request:
            return self.failed(refusal.request, refusal.problem)
        prompt = refusal.prompt
        row = {
            **self._of(prompt, refusal.status),
            "image_index": refusal.image_index,
            "key": refusal.key,
            "negative_prompt": prompt.negative_prompt,
            "width": prompt.width,
            "height": prompt.height,
            "num_inference_steps": prompt.num_inference_steps,
            "guidance_scale": prompt.guidance_scale,
        }
        return with_problem(row, refusal.status, refusal.problem)

    def _source_type(self, request: ImageRequest) -> str:
        if not self._common["scheduler"]:
            return ALGORITHMIC
        return COMPOSITE if any(map(_is_from_outside, request.input_files.values())) else TRAINED

    def _of(self, prompt: Prompt, status: Status) -> Row:
        return {
            **self._common,
            "id": prompt.id,
            "source_row": prompt.source_row,
            "prompt": prompt.text,
            "status": status,
            "created_at": datetime.now(UTC),
            **{carried_name(name): value for name, value in prompt.columns.items()},
        }


def with_problem(row: Row, status: Status, problem: Problem) -> Row:
    """The row, as that of an image that is not there, for this reason."""
    message = problem.message
    if len(message) > MOST_ERROR_TEXT:
        message = message[: MOST_ERROR_TEXT - 3] + "..."
    return {**row, "status": status, "error_code": problem.code, "error": message}


def _of_request(request: ImageRequest) -> Row:
    return {
        "image_index": request.image_index,
        "key": request.key,
        "negative_prompt": request.negative_prompt,
        "seed": request.seed,
        "seed_rejected": request.seed_rejected,
        "width": request.width,
        "height": request.height,
        "num_inference_steps": request.num_inference_steps,
        "guidance_scale": request.guidance_scale,
        "strength": request.strength,
        "parents": [one.key for one in request.input_files.values() if isinstance(one, Parent)] or None,
    }


def _recipe(of_model: str | None, request: ImageRequest) -> str | None:
    """What changes the picture and has no column: of the model, and of this image."""
    images = request.input_images
    own = {
        **({} if request.noise_level is None else {"noise_level": request.noise_level}),
        **(
            {"inputs": {name: _input(request, name, sha256) for name, sha256 in images.sha256.items()}}
            if images
            else {}
        ),
    }
    return json.dumps({**json.loads(of_model or "{}"), **own}, sort_keys=True) if own else of_model


def _input(request: ImageRequest, name: str, sha256: str) -> Mapping[str, str]:
    ingredient = request.input_files[name]
    kind = "file" if isinstance(ingredient, InputFile) else "parent"
    return {kind: ingredient.name, "sha256": sha256}


def _is_from_outside(ingredient: Ingredient) -> bool:
    """Whether there is something in it that no model made."""
    return isinstance(ingredient, InputFile) or ingredient.digital_source_type == COMPOSITE


@functools.cache
def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
