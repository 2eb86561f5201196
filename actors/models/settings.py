"""The settings of one model: its weights, what is put into them, how it draws, and the workers that it gets."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, StringConstraints, field_validator, model_validator

from actors.models.kinds import Task
from actors.models.schedulers import scheduler_name
from actors.settings import MAX_SIDE, Settings

MAX_BATCH = 1024


class WorkerSettings(Settings):
    """How many workers a lane has. Left out: one per GPU share of the cluster, one where there is no GPU."""

    min: Annotated[int, Field(ge=1)] = 1
    max: Annotated[int, Field(ge=1)] | None = None


class WeightsSettings(Settings):
    """Where weights are, and how one knows that they are the right ones."""

    model: Annotated[str, Field(min_length=1)]
    """A hub id, or the path of a folder or file; of a job also the name of a model card, or the path of one."""
    revision: Annotated[str, Field(min_length=1)] | None = None
    """Of a hub id: a branch, a tag or, best, a commit. Left out: `main`, resolved once per job."""
    file: Annotated[str, Field(min_length=1)] | None = None
    """The one file that is meant, of a folder or a hub id that holds several."""
    sha256: Annotated[str, StringConstraints(to_lower=True, pattern=r"^[0-9a-fA-F]{64}$")] | None = None
    """Of the weights, as `weights_sha256` counts them. What does not match is not read."""
    allow_pickle: bool = False
    """Whether weights may be pickles (.ckpt, .pt, .bin), which also takes their `sha256`."""
    mirror: Annotated[str, Field(min_length=1)] | None = None
    """A prefix that `lightmill models mirror` filled from these very weights: where they come from instead."""
    mirror_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """Of the mirror's `sha256.json`. Left out: as it is when the job begins."""


class LoraSettings(WeightsSettings):
    """A LoRA, and how strongly it acts."""

    weight: Annotated[float, Field(allow_inf_nan=False)] = 1.0


class TextualInversionSettings(WeightsSettings):
    """An embedding, and the word in a prompt that stands for it."""

    token: Annotated[str, Field(min_length=1)] | None = None
    """Left out: as the file names it."""


def _by_name(value: object) -> object:
    """`vae: ./vae` is short for `vae: {model: ./vae}`."""
    return {"model": value} if isinstance(value, str) else value


Share = Annotated[float, Field(ge=0, le=1)]
Part = Annotated[WeightsSettings, BeforeValidator(_by_name)]


class CacheSettings(Settings):
    """What is computed in one step and used again in others."""

    kind: Literal["deepcache", "taylorseer", "first_block"]
    interval: Annotated[int, Field(ge=2, le=50)] | None = None
    """Every so manieth step is computed whole. Left out: 3. `first_block` has none."""
    threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Of `first_block` alone: how far its first block may be off for the others to be left out. Left out: 0.05."""

    @model_validator(mode="after")
    def _of_its_kind(self) -> Self:
        mine, other = ("threshold", "interval") if self.kind == "first_block" else ("interval", "threshold")
        if getattr(self, other) is not None:
            raise ValueError(f"without {other}: {self.kind} has none")
        if getattr(self, mine) is None:
            object.__setattr__(self, mine, {"threshold": 0.05, "interval": 3}[mine])
        return self


class ShortcutSettings(Settings):
    """What makes other pictures faster. All are off, and stand in the recipe of each row where they are not."""

    cache: CacheSettings | None = None
    guidance_interval: tuple[Share, Share] | None = None
    """Guidance from this share of the steps to that one, and none before and after."""
    quantization: Literal["int8", "fp8"] | None = None
    """Weights and what they are multiplied with, in the blocks of the part that denoises."""

    @field_validator("guidance_interval")
    @classmethod
    def _has_a_length(cls, said: tuple[float, float] | None) -> tuple[float, float] | None:
        if said and not said[0] < said[1]:
            raise ValueError("a share of the steps and a later one, such as [0.2, 0.8]")
        return said


class ModelSettings(WeightsSettings):
    """One entry of `models` or `stages`: a lane of the job. What is left out is the model's own default."""

    of_images: ClassVar[bool] = False
    """Whether a model that draws from text makes something of an image instead, where the job does not say."""
    task: Task | None = None
    """Left out: the first of the model's own."""
    config: Part | None = None
    """Of a single file: what it was trained as, by a name of ours or a folder that diffusers saved."""
    tokenizer: Part | None = None
    """Of a single file: a folder with the tokenizer's vocabulary, where the config has none."""
    vae: Part | None = None
    """Another VAE than the model's own: a diffusers folder or a single file."""
    loras: tuple[Annotated[LoraSettings, BeforeValidator(_by_name)], ...] = ()
    textual_inversions: tuple[Annotated[TextualInversionSettings, BeforeValidator(_by_name)], ...] = ()
    clip_skip: Annotated[int, Field(ge=0, le=64)] | None = None
    """Layers at the end of the text encoder that are left out, as diffusers counts: 1 is what others call 2, 0 none."""
    prompt_encoding: Literal["plain", "weighted"] = "plain"
    """`weighted`: prompts of any length, and with weights such as `(red:1.2)`; see `actors/models/conditioning.py`."""
    scheduler: str | None = None
    """By a name of `actors.models.schedulers`, such as `dpm++ 2m karras`."""
    num_inference_steps: Annotated[int, Field(ge=1, le=1000)] | None = None
    guidance_scale: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    strength: Annotated[float, Field(gt=0, le=1)] | None = None
    """How much of an input image is made anew; of 1 nothing of it stays, but what inpainting keeps."""
    noise_level: Annotated[int, Field(ge=0, le=1000)] | None = None
    """Of upscaling: how much noise is added to the input image before."""
    height: Annotated[int, Field(ge=8, le=MAX_SIDE, multiple_of=8)] | None = None
    width: Annotated[int, Field(ge=8, le=MAX_SIDE, multiple_of=8)] | None = None
    negative_prompt: str | None = None
    dtype: Literal["float32", "float16", "bfloat16"] | None = None
    """Left out: what `actors.models.accelerator` thinks best."""
    compile: bool = False
    """Whether the blocks of the part that denoises are compiled before anything is made."""
    offload_text_encoders: bool = False
    """Whether they lie in the memory of the machine, and on the GPU only while they work."""
    batch_size: int | Literal["auto"] = 8
    """Images in one forward pass, up to `MAX_BATCH`. Equal batch sizes give equal bytes. `auto`: what the device is
    fastest with, see `actors/batch_sizes.py`."""
    shortcuts: ShortcutSettings = ShortcutSettings()
    threads: Annotated[int, Field(ge=1)] | None = None
    """CPU threads of one worker's arithmetic. Equal numbers give equal bytes. Left out: chosen once, and recorded."""
    workers: WorkerSettings = WorkerSettings()
    gpus_per_worker: Annotated[float, Field(ge=0, le=1)] | None = None
    """May be a fraction. Left out: 1 where the cluster has GPUs, else 0."""

    @field_validator("batch_size", mode="before")
    @classmethod
    def _is_batch_size(cls, said: object) -> object:
        number = int(said) if isinstance(said, str) and said.isdecimal() else said
        if number != "auto" and not (type(number) is int and 1 <= number <= MAX_BATCH):
            raise ValueError(f"a number from 1 to {MAX_BATCH}, or auto")
        return number

    @field_validator("scheduler")
    @classmethod
    def _known_scheduler(cls, said: str | None) -> str | None:
        return None if said is None else scheduler_name(said)

    @property
    def parts(self) -> dict[str, WeightsSettings]:
        """Whatever else is loaded for this model, by the field that names it."""
        alone = {"config": self.config, "tokenizer": self.tokenizer, "vae": self.vae}
        return {
            **{name: part for name, part in alone.items() if part},
            **{f"loras[{number}]": lora for number, lora in enumerate(self.loras)},
            **{f"textual_inversions[{number}]": one for number, one in enumerate(self.textual_inversions)},
        }


class LaterSettings(ModelSettings):
    """An entry of `stages` after the first: it is given the images of the stage before."""

    of_images: ClassVar[bool] = True
