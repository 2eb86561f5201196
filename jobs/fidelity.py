"""Fidelity: whether workers have the weights that made what is there. A job only names them; they may have changed."""

import json
from collections.abc import Container, Mapping
from typing import Self

from actors import metadata
from actors.errors import InputError, Problem
from actors.models.model import ModelInfo
from actors.recipe import LaneRecipe
from actors.storage.bucket import Bucket
from jobs.plan import Plan

Hashes = Mapping[str, str]
"""SHA-256 of a model's weights, under an empty name, and of what was put into it, under `.vae` or `.loras[0]`."""


class Fidelity:
    """The weights of each lane: those of its images, or where there are none yet, of its first worker."""

    def __init__(self, lanes: Mapping[int, Hashes] | None = None) -> None:
        self._lanes = dict(lanes or {})

    @classmethod
    def read(cls, bucket: Bucket, plan: Plan, there: Container[object]) -> Self:
        """See what made the first of the shards of each lane that are `there`."""
        lanes = {lane: plan.lane_shards(lane) for lane in range(len(plan.lane_rows))}
        first = {lane: next((index for index in shards if index in there), None) for lane, shards in lanes.items()}
        return cls({lane: _made_with(bucket, plan, index) for lane, index in first.items() if index is not None})

    def require(self, recipe: LaneRecipe, info: ModelInfo) -> None:
        """Raise `InputError` (LM1307) where a worker of the lane has other weights."""
        now = hashes(info.weights_sha256, info.recipe)
        then = self._lanes.setdefault(recipe.lane, now)
        others = sorted(name for name in then.keys() & now.keys() if then[name] != now[name])
        if others:
            entry = f"{'models' if recipe.stage is None else 'stages'}[{recipe.lane}]"
            raise InputError(*(_other(entry + name, info.model, then[name], now[name]) for name in others))


def hashes(weights_sha256: str | None, recipe: str | None) -> Hashes:
    """Of a model, by what each of its rows says."""
    parts = json.loads(recipe or "{}")
    found = {"": weights_sha256, ".vae": parts.get("vae", {}).get("sha256")}
    for name in ("loras", "textual_inversions"):
        found |= {f".{name}[{number}]": one["sha256"] for number, one in enumerate(parts.get(name, ()))}
    return {name: sha256 for name, sha256 in found.items() if sha256}


def _made_with(bucket: Bucket, plan: Plan, index: int) -> Hashes:
    table = metadata.read_metadata(bucket.get(metadata.key(plan.shard(index)))).table
    (row,) = table.select(["weights_sha256", "recipe"]).slice(0, 1).to_pylist()
    return hashes(row["weights_sha256"], row["recipe"])


def _other(where: str, model: str, then: str, now: str) -> Problem:
    return Problem(
        "LM1307",
        f"{model} has other weights than those that the job's images were made with: SHA-256 {now}, was {then}",
        where=where,
        help="put the old ones back, or use a new output",
    )
