"""JobSpec: the frozen, validated description of a job, as its file says it."""

from typing import Annotated, Any, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from actors.models.settings import LaterSettings, ModelSettings
from actors.settings import (
    OVERRIDES,
    CheckSettings,
    EncodingSettings,
    FilterSettings,
    InputSettings,
    Override,
    PolicySettings,
    Settings,
    Sink,
    StorageSettings,
)
from jobs.limits import LimitSettings

Models = tuple[ModelSettings, ...] | None
MEANINGFUL = ("prompt", "id", *OVERRIDES)
"""What a column of a table can mean to us."""


class JobSpec(Settings):
    """What a user submits. `docs/job-file.md` is its reference."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")] = "job"
    prompts: Annotated[str, Field(min_length=1)]
    """A file, folder or glob, local or `s3://`: .parquet .csv .tsv .jsonl, the last three also .gz and .zst."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Ours to the table's: `{prompt: caption, id: uid}`, only where the names differ."""
    overrides: tuple[Override, ...] = ()
    output: Annotated[str, Field(min_length=1)]
    """A folder or an `s3://` prefix: the job's name everywhere."""
    only_new: bool = False
    """Of a schedule: whether a slot leaves out the rows that earlier ones have made."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    images_per_prompt: Annotated[int, Field(ge=1, le=10_000)] = 1
    shard_size: Annotated[int, Field(ge=1, le=100_000)] = 1000
    """Images in one shard: what is committed at once, and at most what a dead worker costs. A worker holds 3 kB for
    each until the shard is done, hence the bound."""
    stages: Annotated[tuple[ModelSettings, ...], Field(min_length=2, max_length=100)] | None = None
    """Each makes its images of those of the one before. In the place of `models`."""
    models: Annotated[tuple[ModelSettings, ...], Field(min_length=1, max_length=100)] | None = Field(
        None, validate_default=True
    )
    sink: Sink = "webdataset"
    encoding: EncodingSettings = EncodingSettings()
    checks: CheckSettings = CheckSettings()
    prompt_filter: FilterSettings = FilterSettings()
    inputs: InputSettings = InputSettings()
    policy: PolicySettings = PolicySettings()
    storage: StorageSettings = StorageSettings()
    limits: LimitSettings = LimitSettings()

    @field_validator("columns")
    @classmethod
    def _known_columns(cls, columns: dict[str, str]) -> dict[str, str]:
        for ours in columns:
            if ours not in MEANINGFUL:
                raise ValueError(f"named by what they mean: {ours!r} is none of {', '.join(MEANINGFUL)}")
        return columns

    @field_validator("models")
    @classmethod
    def _instead_of_stages(cls, models: Models, info: ValidationInfo) -> Models:
        if models is None and info.data.get("stages", ...) is None:
            raise PydanticCustomError("missing", "neither models nor stages")
        if models is not None and info.data.get("stages") is not None:
            raise ValueError("left out where there are `stages`: a job has the ones or the others")
        return models

    @model_validator(mode="after")
    def _each_row_has_one_lane(self) -> Self:
        names = [settings.model for settings in self.lanes]
        if "model" in self.overrides and self.stages:
            raise ValueError("`models` for an override of `model`: each row goes through all stages")
        if "model" in self.overrides and len(set(names)) < len(names):
            raise ValueError("different models: rows are routed by the model's name, and one is named twice")
        return self

    @property
    def lanes(self) -> tuple[ModelSettings, ...]:
        """What each lane of the job is made with: the models, or the stages in their order."""
        first, *others = self.stages or self.models or ()
        return (first, *(LaterSettings.model_construct(**dict(one)) if self.stages else one for one in others))

    @property
    def rows_per_shard(self) -> int:
        return max(1, self.shard_size // self.images_per_prompt)

    def dump(self) -> dict[str, Any]:
        """As JSON has it."""
        return self.model_dump(mode="json")
