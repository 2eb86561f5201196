"""Manifest: what was promised. Written under the lease and never changed; every later run is held to it."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import Field, PlainSerializer, PlainValidator, ValidationError

from actors.errors import InputError, NotFound, Problem
from actors.models.card import ModelCard
from actors.models.registry import find_card
from actors.records import SCHEMA_VERSION
from actors.settings import Settings
from actors.storage.bucket import Bucket, Fence
from actors.storage.probe import StoreClass
from actors.tables.prompt_filter import block_list_sha256
from actors.tables.table import PromptTable
from jobs.plan import Plan
from jobs.spec import JobSpec

KEY = "manifest.json"
FREE = {"name", "output", "storage", "limits", "prompts", "only_new"}
"""Fields of a job that may differ from one run to the next: they change neither the pictures nor their places. The
table is held to its identity instead of to the words that named it."""
FREE_OF_A_MODEL = {"workers", "gpus_per_worker", "threads", "offload_text_encoders", "mirror", "mirror_sha256"}

Table = Annotated[
    PromptTable,
    PlainValidator(lambda value: value if isinstance(value, PromptTable) else PromptTable.from_dict(value)),
    PlainSerializer(PromptTable.to_dict),
]


class Manifest(Settings):
    """`manifest.json`: the job as it was first run, and the table as it then was."""

    schema_version: int = SCHEMA_VERSION
    spec: JobSpec
    fingerprint: str
    table: Table
    blocked: tuple[str, ...] = ()
    """The entries of the prompt filter's block list, as they were at the first run."""
    cards: tuple[ModelCard | None, ...]
    """What was known of each lane's model at the first run; None of a model without a card."""
    lane_rows: tuple[int, ...]
    threads: tuple[int, ...]
    """CPU threads of a worker, lane by lane: chosen at the first run where the job left it open."""
    commits: dict[str, str] = Field(default_factory=dict)
    """What the revisions and mirrors of the job's models stood for at the first run, by `hub id@revision` and URL."""
    rows: int
    images: int
    shards: int
    store: StoreClass
    created_at: datetime
    versions: dict[str, str]
    commit: str | None = None
    """Of the code, where it ran from a checkout."""

    @property
    def plan(self) -> Plan:
        """Which rows make which shard."""
        spec = self.spec
        return Plan(self.lane_rows, spec.rows_per_shard, spec.images_per_prompt, staged=bool(spec.stages))

    @classmethod
    def load(cls, bucket: Bucket) -> Self | None:
        """The output's manifest, or None where nothing was promised yet. Raises `InputError` on one it cannot read."""
        try:
            text = bucket.get(KEY)
        except NotFound:
            return None
        try:
            version = json.loads(text)["schema_version"]
            if version > SCHEMA_VERSION:
                raise InputError(_too_new(bucket.url, version))
            return cls.model_validate_json(text)
        except (ValueError, KeyError, TypeError, ValidationError) as error:
            message = f"{bucket.url}/{KEY} is not a manifest of lightmill"
            action = "name the output of a job, or use a new one"
            raise InputError(Problem("LM1312", message, value=str(error)[:200], help=action)) from error

    def write(self, bucket: Bucket, fence: Fence) -> None:
        """Promise. The caller holds the lease, which `fence` asks, and has seen that there is no manifest.

        Raises `PreconditionFailed` where the store finds one all the same.
        """
        bucket.put(KEY, self.model_dump_json(indent=1).encode(), if_absent=self.store == "strong", fence=fence)

    def refuse_another(self, spec: JobSpec, identity: Mapping[str, Any], blocked: Sequence[str], url: str) -> None:
        """Raise `InputError` naming every field in which this job differs from what was promised, or its models' cards
        from what they then said; LM1208 for a card that cannot be used."""
        before = promise(self.spec, self.cards, asdict(self.table.identity), self.blocked)
        found = list(_differences(before, promise(spec, cards_of(spec), identity, blocked)))
        named = {field for field, *_ in found}
        # That another model has another card goes without saying.
        differences = [one for one in found if f"{one[0].partition('.card')[0]}.model" not in named]
        if differences:
            raise InputError(
                *(
                    Problem(
                        "LM1307",
                        f"{url} holds another job: {field} was {_short(before)}, is now {_short(after)}",
                        where=field,
                        help=f"use a new output, or put the {'table' if field.startswith('table.') else 'field'} back",
                    )
                    for field, before, after in differences
                )
            )


Cards = Sequence[ModelCard | None]


def cards_of(spec: JobSpec) -> tuple[ModelCard | None, ...]:
    """What is known of each lane's model now. Raises `InputError` (LM1208) for a card that cannot be used."""
    return tuple(find_card(settings.model) for settings in spec.lanes)


def promise(spec: JobSpec, cards: Cards, identity: Mapping[str, Any], blocked: Sequence[str] = ()) -> dict[str, Any]:
    """What makes the pictures, their rights and their places, and nothing else. A block list is known by what is in
    it."""
    dump = spec.dump()
    lanes = {name: dump.pop(name) for name in ("models", "stages")}
    fields = {name: value for name, value in dump.items() if name not in FREE}
    fields["prompt_filter"] |= {"block_list": block_list_sha256(blocked)}
    bound = {
        name: [
            {**_bound(entry), "card": card.promise() if card else None}
            for entry, card in zip(entries, cards, strict=True)
        ]
        for name, entries in lanes.items()
        if entries is not None
    }
    return {**fields, **bound, "table": dict(identity)}


def fingerprint(promised: Mapping[str, Any]) -> str:
    """SHA-256 of the promise, in hex."""
    canonical = json.dumps(promised, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _bound(value: Any) -> Any:  # noqa: ANN401
    """What of a model, or of its parts, is no more to be changed."""
    if isinstance(value, list):
        return [_bound(one) for one in value]
    if isinstance(value, dict):
        return {name: _bound(one) for name, one in value.items() if name not in FREE_OF_A_MODEL}
    return value


def _differences(before: Any, after: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:  # noqa: ANN401
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in sorted(before.keys() | after.keys()):
            yield from _differences(before.get(name), after.get(name), f"{path}.{name}" if path else name)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from _differences(one, other, f"{path}[{number}]")
    elif before != after:
        yield path, before, after


def _short(value: Any) -> str:  # noqa: ANN401
    text = json.dumps(value, default=str)
    return text if len(text) <= 120 else text[:117] + "..."


def _too_new(url: str, version: int) -> Problem:
    return Problem(
        "LM1313",
        f"{url} was written by a newer lightmill (schema {version}, this one reads up to {SCHEMA_VERSION})",
        help="upgrade lightmill",
    )
