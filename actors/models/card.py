"""ModelCard: what is known of a model before any of it is there: where its weights lie, how it is run, what it may do.

Every model that lightmill knows by name has one, `cards/<name>.yaml`; a user's own has the same fields. Names of
parameters are those of diffusers.
"""

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from actors.models.kinds import Certainty, Task, Tier
from actors.models.license import License, Text, licenses
from actors.models.settings import WeightsSettings
from actors.settings import MAX_SIDE, Settings

Name = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=63)]

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
PATH = ("./", "../", "~", "/")
"""How a path begins, where a hub id could stand as well."""
PICKLES = frozenset({".bin", ".ckpt", ".pt", ".pth", ".pkl"})
"""Suffixes of weights in a folder that run code when they are loaded."""
VARIANTS = ("*.fp16[.-]*", "*.bf16[.-]*", "*.non_ema[.-]*", "*.ema[.-]*")
"""Second copies of the same weights, which nothing here reads."""
WORDS = frozenset(
    {"name", "title", "use", "training_data", "parameters", "text_encoders", "certainty", "aliases", "mirrors"}
    | {"gated", "pickle", "safety_checker"}
)
"""Fields of a card that make neither its pictures nor their rights: they may be put otherwise while a job goes on."""
_RECALLED: Mapping[str, Certainty] = {"default": "recalled"}


def is_pickle_file(name: str) -> bool:
    """Whether a single file of this name is read as a pickle. `.safetensors` is the one ending, in just these letters,
    that diffusers takes for something else."""
    return Path(name).suffix != ".safetensors"


def is_hub_id(name: str) -> bool:
    """Whether this names a repository of the hub, whatever lies at such a path here: a folder must not pass for a model
    that others know by that name."""
    return bool(HUB_ID.fullmatch(name)) and not name.startswith(".")


class Weights(Settings):
    """Where weights lie, and which bytes they are."""

    id: Text | None = None
    """Hub id; or the path of a folder, `./sd` from the card's own. None for what is built in."""
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = None
    """Commit of the hub. None: not pinned."""
    mirrors: tuple[Text, ...] = ()
    """Hub ids of copies."""
    format: Literal["folder", "single_file", "built_in"] = "folder"
    """`folder`: as diffusers saves a pipeline; `single_file`: a checkpoint in the layout of the original code."""
    file: Text | None = None
    """Path of the single file, from the top of `id`."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """Of the single file. None: not known."""
    pickle: bool = False
    """Whether there are no safetensors weights, only pickles, which run code where they are loaded without care."""

    @property
    def is_local(self) -> bool:
        return self.id is not None and self.id.startswith(PATH)

    @field_validator("id")
    @classmethod
    def _is_hub_id_or_path(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(PATH) and not HUB_ID.fullmatch(value):
            raise ValueError("a hub id such as someone/some-model, or a path that begins with ./ or /")
        return value

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if (self.id is None) != (self.format == "built_in"):
            raise ValueError("an id, unless its format is built_in")
        if (self.file is not None) != (self.format == "single_file"):
            raise ValueError("a file where its format is single_file, and only there")
        if self.file is not None and self.pickle != is_pickle_file(self.file):
            raise ValueError(f"pickle: {str(not self.pickle).lower()} for {self.file}")
        if self.sha256 and self.file is None:
            raise ValueError("no sha256 where it names no file")
        return self


class TextEncoder(Settings):
    """One of the encoders that read the prompt."""

    name: Text
    layers: Annotated[int, Field(ge=1)]
    """As loaded: 23 of OpenCLIP ViT-H's 24, since the conversion to diffusers leaves out the last."""
    tokens: Annotated[int, Field(ge=1)]
    """Of a prompt that it reads, its marks of beginning and end included."""


class Scheduler(Settings):
    """The scheduler that the model is run with by default."""

    name: Text
    """Class of diffusers."""
    arguments: dict[str, bool | int | float | str] = Field(default_factory=dict)
    """In place of what the model's own configuration says."""


class Numerics(Settings):
    """Which number formats give finite pictures."""

    float16: bool
    """False where it overflows: bfloat16 or float32 then."""
    upcast: tuple[Literal["attention", "text_encoder", "vae"], ...] = ()
    """What has to be computed in float32 where the rest is float16."""


class ModelCard(Weights):
    """Everything about one model. A fact that nobody knows is None, never a guess; `certainty` says the rest."""

    name: Name
    title: Text
    use: Text
    """What to choose it for, in a sentence."""
    tier: Tier
    """What the weights were made to draw: `clean` where no picture was used against anybody's rights, `sfw` where
    explicit ones were taken out strictly, `anime` and `unrestricted` where they were not taken out at all."""
    license: License
    training_data: Text
    """What it was trained on, in a sentence."""
    gated: bool = False
    """Whether the hub wants terms accepted first."""
    safety_checker: bool = False
    """Whether one comes with it."""
    aliases: tuple[Text, ...] = ()
    """Hub ids by which it is also known, gone ones too. Nothing is fetched from them."""
    config: Name | None = None
    """Of a single file: the folder of `configs/` with the structure of its pipeline. None: seen from its shapes."""
    tokenizer: Weights | None = None
    """Of a single file: where the tokenizers are that it reads with, as vocabularies are too large to ship. In a card:
    the name of the model that has them, or this."""
    vae: Weights | None = None
    """One that takes the place of the model's own."""
    pipeline: Text | None = None
    """Class of diffusers for the first of its tasks. None for what is not of diffusers."""
    tasks: Annotated[tuple[Task, ...], Field(min_length=1)] = ("text-to-image",)
    parameters: Annotated[float, Field(gt=0)] | None = None
    """Billions, of the part that denoises."""
    sizes: Annotated[tuple[tuple[int, int], ...], Field(min_length=1)]
    """Widths and heights in pixels that it was trained for, the default first."""
    size_multiple: Annotated[int, Field(ge=1)] = 8
    prediction_type: Literal["epsilon", "v_prediction", "flow_prediction"] | None = None
    """As diffusers' schedulers have it: it cannot be seen from the weights, and the wrong one gives noise. None: not
    known, or not a diffusion model."""
    text_encoders: tuple[TextEncoder, ...] = ()
    clip_skip: Annotated[int, Field(ge=1)] | None = None
    """Last layers of the text encoder to leave out, as diffusers counts them."""
    scheduler: Scheduler | None = None
    """None: the one that comes with the weights."""
    num_inference_steps: Annotated[int, Field(ge=1, le=1000)] | None = None
    """None: the default of the pipeline's class."""
    guidance_scale: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    negative_prompt: str = ""
    dtype: Numerics | None = None
    certainty: dict[str, Certainty] = Field(default_factory=lambda: dict(_RECALLED))
    """How sure a field is: `measured` on the weights themselves, `documented` by their makers, or `recalled` and not
    looked up. `default` is for those that are not named."""

    @property
    def is_built_in(self) -> bool:
        """Whether it comes with lightmill."""
        return self.format == "built_in"

    def how_sure(self, field: str) -> Certainty:
        """How far what stands in the field can be relied on."""
        return self.certainty.get(field, self.certainty["default"])

    @property
    def prompt_tokens(self) -> int | None:
        """What the encoder that reads most reads of a prompt: what is cut off there, none has seen."""
        return max((encoder.tokens for encoder in self.text_encoders), default=None)

    def silent_on(self, weights: WeightsSettings) -> str | None:
        """The field by which these are other weights than those that it speaks of; None where they are the same.
        A card that names no revision speaks of `main`."""
        known = {"revision": self.revision or "main", "file": self.file, "sha256": self.sha256}
        named = (field for field in known if getattr(weights, field) is not None)
        other = (field for field in named if getattr(weights, field) != known[field])
        return next((field for field in other if field != "sha256" or self.sha256), None)

    def promise(self) -> dict[str, Any]:
        """What it says that makes the pictures and their rights, as JSON has it."""
        place, terms = {"mirrors": True, "pickle": True}, {"name": True, "link": True, "conditions": True}
        words: dict[str, Any] = {**dict.fromkeys(WORDS, True), "license": terms, "vae": place, "tokenizer": place}
        said = self.model_dump(mode="json", exclude=words)
        return {**said, "tasks": said["tasks"][:1], "sizes": said["sizes"][:1]}  # the others are on offer

    @field_validator("tokenizer", mode="before")
    @classmethod
    def _known_tokenizer(cls, value: object) -> object:
        if isinstance(value, str):  # of a known one, the registry has said where it is
            raise ValueError("the name of a model that lightmill knows, or a map with its id")
        return value

    @field_validator("license", mode="before")
    @classmethod
    def _known_license(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        known = licenses()
        if value not in known:
            close = difflib.get_close_matches(value, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"
            raise ValueError(f"a known licence, or a map with {', '.join(License.model_fields)}; {hint}")
        return known[value]

    @field_validator("sizes")
    @classmethod
    def _sizes_fit(cls, value: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
        if not all(1 <= side <= MAX_SIDE for size in value for side in size):
            raise ValueError(f"pairs of width and height, from 1 to {MAX_SIDE} pixels")
        return value

    @field_validator("certainty")
    @classmethod
    def _certainty_of_fields(cls, value: dict[str, Certainty], _info: ValidationInfo) -> dict[str, Certainty]:
        if "default" not in value:
            raise ValueError("a map with a default")
        for name in value.keys() - cls.model_fields.keys() - {"default"}:
            raise ValueError(f"a map of this card's fields: {name!r} is none")
        return value

    @model_validator(mode="after")
    def _sizes_are_multiples(self) -> Self:
        if any(side % self.size_multiple for size in self.sizes for side in size):
            raise ValueError(f"sizes that are multiples of its size_multiple, {self.size_multiple}")
        return self
