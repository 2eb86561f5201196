"""Forecast: what a job would come to, said before anything is generated or written."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from actors.errors import InputError, Problem
from actors.models.facts import ModelFacts, describe_model
from actors.models.kinds import Task
from actors.models.revisions import read_mirrors
from actors.models.settings import ModelSettings
from actors.records import SCHEMA_VERSION
from actors.settings import ImageFormat
from actors.storage.opening import FIRST_MEETING_SECONDS, open_bucket
from actors.tables.table import TableIdentity
from jobs.catalog import Catalog
from jobs.check_report import CheckReport
from jobs.examination import examine
from jobs.manifest import Manifest
from jobs.order import CheckMode
from jobs.spec import JobSpec

SHARE_OF_RAW: Mapping[ImageFormat, float] = {"webp": 0.5, "png": 0.57, "jpeg": 0.1}
"""Bytes of an encoded image per byte of RGB, measured on natural images (docs/performance.md)."""
ROW_BYTES = 200
"""Of a metadata row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneForecast:
    """One model's part."""

    stage: int | None
    """Of a job with several: which this is."""
    model: str
    task: Task
    rows: int | None
    """None where the table routes rows and has not been read for it."""
    width: int
    height: int
    num_inference_steps: int | None
    """None: what the pipeline's class has as its default."""
    guidance_scale: float | None
    shortcuts: Mapping[str, Any]
    """Those that are taken, as the job says them."""
    negative_prompt: str
    license: str
    tier: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What `lightmill plan` says."""

    rows: int
    images: int
    shards: int
    lanes: tuple[LaneForecast, ...]
    bytes: int
    objects: int
    needs_rewrite: bool
    committed: int | None
    """Shards that are there already; None where nothing has been promised yet."""
    report: CheckReport
    refusals: tuple[Problem, ...]
    """Why `run` would refuse the job; empty where it would not."""
    notes: tuple[Problem, ...]
    """What else is to be said of its models."""

    def to_dict(self) -> dict[str, Any]:
        """As `plan --json` prints it."""
        return {
            "schema_version": SCHEMA_VERSION,
            **asdict(self),
            "report": self.report.to_dict(),
            "refusals": [problem.to_dict() for problem in self.refusals],
            "notes": [problem.to_dict() for problem in self.notes],
        }


def forecast(spec: JobSpec, check: CheckMode) -> Forecast:
    """Look at the table, the models and the output. Writes nothing.

    Raises `InputError` where there is nothing to forecast, and `StorageError` where the output cannot be read.
    """
    examined = examine(spec, check, _look, count_tokens=True)
    source = examined.source
    committed, others = _look_at_output(spec, source.identity, examined.blocked)
    lanes = 1 if "model" in spec.overrides else len(spec.lanes)
    images = source.rows * lanes * spec.images_per_prompt
    shards = lanes * -(-source.rows // spec.rows_per_shard)
    return Forecast(
        rows=source.rows,
        images=images,
        shards=shards,
        lanes=tuple(
            LaneForecast(
                stage=lane if spec.stages else None,
                model=known.model,
                task=known.task,
                rows=None if "model" in spec.overrides else source.rows,
                width=known.width,
                height=known.height,
                num_inference_steps=known.num_inference_steps,
                guidance_scale=known.guidance_scale,
                shortcuts=known.shortcuts.model_dump(mode="json", exclude_none=True),
                negative_prompt=known.negative_prompt,
                license=known.license,
                tier=known.tier,
            )
            for lane, known in enumerate(examined.facts)
        ),
        bytes=_bytes(spec, examined.facts, images),
        objects=shards + (images if spec.sink == "files" else shards),
        needs_rewrite=source.needs_rewrite,
        committed=committed,
        report=examined.report,
        refusals=tuple(dict.fromkeys([*examined.refusals, *others])),
        notes=examined.notes,
    )


def _look(settings: ModelSettings) -> ModelFacts:
    read_mirrors(settings)
    return describe_model(settings)


def _look_at_output(
    spec: JobSpec, identity: TableIdentity, blocked: Sequence[str]
) -> tuple[int | None, tuple[Problem, ...]]:
    """How many shards are there, and why it is not for this job to add to them."""
    bucket = open_bucket(spec.output, spec.storage, patience_seconds=FIRST_MEETING_SECONDS)
    manifest = Manifest.load(bucket)
    if manifest is None:
        return None, ()
    try:
        manifest.refuse_another(spec, asdict(identity), blocked, bucket.url)
    except InputError as error:
        return None, error.problems
    return Catalog.read(bucket, manifest.shards).committed, ()


def _bytes(spec: JobSpec, facts: Sequence[ModelFacts], images: int) -> int:
    """Of images and metadata together; a guess, since it is the pictures that decide."""
    if not facts:
        return images * ROW_BYTES
    raw = sum(known.width * known.height * 3 for known in facts) / len(facts)
    return round(images * (raw * SHARE_OF_RAW[spec.encoding.format] + ROW_BYTES))
