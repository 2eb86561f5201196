"""From an order and the rows of its shard to the images that are to be made, every parameter resolved."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from actors.errors import Problem
from actors.ingredients import Ingredient, InputFile, Parent
from actors.models.facts import ModelFacts
from actors.models.model import ModelInfo
from actors.models.tasks import NEEDS, TAKES
from actors.parents import Row, inherit, orphaned, parent_of
from actors.recipe import LaneRecipe
from actors.records import ImageRequest, Prompt, ShardOrder, Status, sample_key
from actors.settings import MAX_SIDE
from actors.tables.seeds import derive_seed, follow_seed


@dataclass(frozen=True, slots=True)
class Refusal:
    """A promised image that is not to be made, and why. `request` is None where the row itself is at fault."""

    prompt: Prompt
    image_index: int
    lane: int
    problem: Problem
    request: ImageRequest | None = None
    status: Status = "failed"
    """What becomes of its row."""

    @property
    def key(self) -> str:
        return sample_key(self.prompt.source_row, self.image_index, self.lane)


@dataclass(frozen=True, slots=True)
class Assignment:
    """An order, taken apart."""

    requests: tuple[ImageRequest, ...]
    """Every image of the shard that could be made: the sizes of batches follow from all of them."""
    wanted: frozenset[str]
    """The keys of those that are to be made now."""
    refused: tuple[Refusal, ...]


def resolve(
    order: ShardOrder,
    prompts: Sequence[Prompt],
    recipe: LaneRecipe,
    info: ModelInfo,
    parents: Mapping[str, Row] | None = None,
) -> Assignment:
    """Who is made, who is refused. What a row leaves open is the model's default.

    `parents` are the rows of the stage before, of a later stage, by their keys.
    """
    requests, refused = [], []
    for found in _images(prompts, recipe, info, parents):
        if isinstance(found, Refusal):
            refused.append(found)
            continue
        requests.append(found)
        problem = order.verdict or order.condemned.get(found.key)
        if problem:
            refused.append(Refusal(found.prompt, found.image_index, found.lane, problem, found))
    out_of_question = {refusal.key for refusal in refused}
    return Assignment(
        tuple(requests),
        frozenset(
            request.key for request in requests if _asked(order, request.key) and request.key not in out_of_question
        ),
        tuple(refusal for refusal in refused if _asked(order, refusal.key)),
    )


def _asked(order: ShardOrder, key: str) -> bool:
    return order.only is None or key in order.only


def _images(
    prompts: Sequence[Prompt], recipe: LaneRecipe, info: ModelInfo, parents: Mapping[str, Row] | None
) -> Iterator[ImageRequest | Refusal]:
    indices = range(recipe.images_per_prompt)
    for prompt in prompts:
        if parents is None or prompt.problem or prompt.filtered:
            yield from _of_prompt(prompt, indices, recipe, info)
            continue
        for index in indices:
            row = parents[sample_key(prompt.source_row, index, recipe.lane - 1)]
            if row["status"] == "ok":
                parent = parent_of(row)
                heir = inherit(prompt, parent, recipe.model, info.task)
                yield from _of_prompt(heir, [index], recipe, info, parent)
            else:
                yield Refusal(prompt, index, recipe.lane, orphaned(row), status=row["status"])


def _of_prompt(
    prompt: Prompt, indices: Iterable[int], recipe: LaneRecipe, info: ModelInfo, parent: Parent | None = None
) -> Iterator[ImageRequest | Refusal]:
    problem = prompt.problem or prompt.filtered or _misfit(prompt, info)
    status: Status = "filtered" if prompt.filtered else "failed"
    for image_index in indices:
        if problem:
            yield Refusal(prompt, image_index, recipe.lane, problem, status=status)
        else:
            yield _request(prompt, image_index, recipe, info, parent)


def _request(
    prompt: Prompt, image_index: int, recipe: LaneRecipe, info: ModelInfo, parent: Parent | None
) -> ImageRequest:
    negative, guidance = prompt.negative_prompt, prompt.guidance_scale
    return ImageRequest(
        prompt=prompt,
        image_index=image_index,
        lane=recipe.lane,
        negative_prompt=info.negative_prompt if negative is None else negative,
        seed=first_seed(prompt, image_index, recipe.seed),
        seed_rejected=None,
        width=prompt.width or info.width,
        height=prompt.height or info.height,
        num_inference_steps=prompt.num_inference_steps or info.num_inference_steps,
        guidance_scale=info.guidance_scale if guidance is None else guidance,
        strength=None if info.strength is None else prompt.strength or info.strength,
        noise_level=_noise_level(prompt, info),
        input_files={"image": parent} if parent else _input_files(prompt, info),
    )


def _input_files(prompt: Prompt, info: ModelInfo) -> dict[str, Ingredient]:
    return {name: InputFile(file) for name in TAKES[info.task] if (file := getattr(prompt, name))}


def _noise_level(prompt: Prompt, info: ModelInfo) -> int | None:
    own = prompt.noise_level
    return info.noise_level if info.noise_level is None or own is None else own


def first_seed(prompt: Prompt, image_index: int, job_seed: int) -> int:
    """The seed of an image before anything is known against it."""
    if prompt.seed is None:
        return derive_seed(job_seed, prompt.id, image_index)
    return follow_seed(prompt.seed, image_index)


def _misfit(prompt: Prompt, info: ModelInfo) -> Problem | None:
    """What only the model knows to be wrong with a row."""
    return (
        _lacking_input(prompt, info)
        or _no_step(prompt, info)
        or _too_noisy(prompt, info)
        or _too_large(prompt)
        or misfit_size(prompt.width or info.width, prompt.height or info.height, info)
    )


def _lacking_input(prompt: Prompt, info: ModelInfo) -> Problem | None:
    missing = [name for name in NEEDS[info.task] if not getattr(prompt, name)]
    if not missing:
        return None
    message = f"the row has no {' and no '.join(missing)}, without which {info.model} does no {info.task}"
    return Problem("LM1031", message, help="fill it in, or remove the row")


def _no_step(prompt: Prompt, info: ModelInfo) -> Problem | None:
    steps, strength = prompt.num_inference_steps or info.num_inference_steps, prompt.strength or info.strength
    return None if info.strength is None or strength is None else no_step(strength, steps)


def no_step(strength: float, steps: int) -> Problem | None:
    """Of a weak strength and few steps, diffusers makes none at all."""
    if int(steps * strength) >= 1:
        return None
    message = f"a strength of {strength:g} leaves none of {steps} steps"
    return Problem("LM1032", message, value=f"{strength:g}", help=f"use {1 / steps:.2g} or more, or more steps")


def _too_noisy(prompt: Prompt, info: ModelInfo) -> Problem | None:
    level, most = _noise_level(prompt, info), info.max_noise_level
    if level is None or most is None or level <= most:
        return None
    message = f"noise_level {level} is more than {info.model} knows, which is {most}"
    return Problem("LM1033", message, value=str(level), help=f"use {most} or less")


def _too_large(prompt: Prompt) -> Problem | None:
    """What the stage before has made cannot be upscaled further. A table's own sizes were looked at before."""
    width, height = prompt.width or 0, prompt.height or 0
    if max(width, height) <= MAX_SIDE:
        return None
    message = f"upscaled it would be {width}x{height}, over {MAX_SIDE} pixels a side"
    return Problem("LM1007", message, value=f"{width}x{height}", help="make smaller images in the stage before")


def misfit_size(width: int, height: int, info: ModelInfo | ModelFacts) -> Problem | None:
    """A size that the model's latents cannot have."""
    multiple = info.size_multiple
    for name, side in (("width", width), ("height", height)):
        if side % multiple:
            below = side // multiple * multiple
            return Problem(
                "LM1006",
                f"{width}x{height}: {name} must be a multiple of {multiple} for {info.model}",
                value=str(side),
                help=f"use {below or multiple} or {below + multiple}",
            )
    return None
