"""Lanes: what each model's workers are told, and how many workers it gets."""

from actors.machine import processors
from actors.models.card import ModelCard
from actors.models.revisions import pinned, pinned_card
from actors.models.settings import ModelSettings
from actors.recipe import LaneRecipe
from jobs.manifest import Manifest
from jobs.spec import JobSpec

MOST_THREADS = 8
"""More threads than this make one image slower, not faster: its tensors are small."""


def default_threads(spec: JobSpec, shards: int, *, alone: bool) -> tuple[int, ...]:
    """CPU threads of each lane's workers: chosen once and kept in the manifest, since the bytes of a picture made on a
    CPU depend on them. `alone`: all workers are on this machine, and share its processors; two that have all of them
    at once took 4 times as long as one."""
    share = processors() // max(min(most_workers(spec), shards), 1) if alone else processors()
    return tuple(settings.threads or min(max(share, 1), MOST_THREADS) for settings in spec.lanes)


def most_workers(spec: JobSpec) -> int:
    """For how many workers a Ray of our own must have room."""
    return sum(_asked(settings) for settings in spec.lanes)


def lane_recipes(manifest: Manifest, spec: JobSpec, gpus: float) -> tuple[LaneRecipe, ...]:
    """What the workers of each lane are told: as promised, except for what this run may choose anew."""
    return tuple(
        LaneRecipe(
            lane=lane,
            stage=lane if spec.stages else None,
            model=_as_begun(manifest, lane, settings, gpus),
            card=pinned_card(manifest.cards[lane], manifest.commits),
            table=manifest.table.located(spec.output),
            columns=spec.columns,
            overrides=spec.overrides,
            seed=spec.seed,
            images_per_prompt=spec.images_per_prompt,
            output=spec.output,
            sink=spec.sink,
            encoding=spec.encoding,
            checks=spec.checks,
            policy=spec.policy,
            prompt_filter=spec.prompt_filter,
            blocked=manifest.blocked,
            inputs=spec.inputs,
            storage=spec.storage,
            batch_timeout_seconds=spec.limits.batch_timeout_seconds,
        )
        for lane, settings in enumerate(spec.lanes)
    )


def _as_begun(manifest: Manifest, lane: int, settings: ModelSettings, gpus: float) -> ModelSettings:
    """With the commits and the threads, and by the card, that the first run found."""
    card = manifest.cards[lane]
    begun = pinned(settings, manifest.commits, lambda _: card)
    share = _gpus_per_worker(settings, card, gpus)
    return begun.model_copy(update={"threads": manifest.threads[lane], "gpus_per_worker": share})


def wants_gpu(settings: ModelSettings, card: ModelCard | None) -> bool:
    """Whether its workers take a GPU where there is one: what comes with lightmill is too small to."""
    if settings.gpus_per_worker is not None:
        return settings.gpus_per_worker > 0
    return card is None or not card.is_built_in


def lane_workers(recipe: LaneRecipe, gpus: float) -> int:
    """How many workers a lane gets: as many as it may have, or one per GPU share of the cluster."""
    settings = recipe.model
    if settings.workers.max is not None:
        return settings.workers.max
    share = settings.gpus_per_worker or 0
    return max(_asked(settings), int(gpus / share) if share else 1)


def _gpus_per_worker(settings: ModelSettings, card: ModelCard | None, gpus: float) -> float:
    if settings.gpus_per_worker is not None:
        return settings.gpus_per_worker
    return 1.0 if gpus and wants_gpu(settings, card) else 0.0


def _asked(settings: ModelSettings) -> int:
    return settings.workers.max or settings.workers.min
