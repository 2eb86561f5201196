"""LaneRecipe: all that a worker must know to make the shards of its lane."""

from collections.abc import Mapping
from dataclasses import dataclass

from actors.models.card import ModelCard
from actors.models.settings import ModelSettings
from actors.settings import (
    CheckSettings,
    EncodingSettings,
    FilterSettings,
    InputSettings,
    Override,
    PolicySettings,
    Sink,
    StorageSettings,
)
from actors.tables.table import PromptTable


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneRecipe:
    """One model's part of a job, as it travels to the workers: small, and without secrets."""

    lane: int
    stage: int | None = None
    """Of a job with several: which this is. A later one makes something of the images of the lane before."""
    model: ModelSettings
    card: ModelCard | None
    """What was known of the model when the job began."""
    table: PromptTable
    columns: Mapping[str, str]
    overrides: tuple[Override, ...]
    seed: int
    images_per_prompt: int
    output: str
    sink: Sink
    encoding: EncodingSettings
    checks: CheckSettings
    policy: PolicySettings
    prompt_filter: FilterSettings
    blocked: tuple[str, ...]
    """The entries of the filter's block list."""
    inputs: InputSettings
    storage: StorageSettings
    batch_timeout_seconds: float
