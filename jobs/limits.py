"""Limits: when to give up."""

from typing import Annotated

from pydantic import Field

from actors.settings import Settings


class LimitSettings(Settings):
    """When to give up: on a row, on a shard, on the job."""

    max_failed_share: Annotated[float, Field(ge=0, le=1)] = 0.01
    max_attempts: Annotated[int, Field(ge=1)] = 3
    batch_timeout_seconds: Annotated[float, Field(gt=0, le=86_400)] = 600
