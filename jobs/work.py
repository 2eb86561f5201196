"""Work: what a driver has before it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from actors.recipe import LaneRecipe
from jobs.catalog import Catalog
from jobs.commit import Committer
from jobs.fidelity import Fidelity
from jobs.plan import Plan
from jobs.retry import Rework


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a driver drives: the promise, what exists of it, and the means to commit more."""

    plan: Plan
    recipes: tuple[LaneRecipe, ...]
    workers: tuple[int, ...]
    """How many workers each lane may have."""
    catalog: Catalog
    committer: Committer
    max_attempts: int
    fidelity: Fidelity = field(default_factory=Fidelity)
    """What was made with which weights."""
    rework: Mapping[int, Rework] | None = None
    """Of `retry`: the images to be made again, by shard; the catalog then counts all others as committed."""
