"""Promise: the step from a job as it is asked for to a manifest that every later run is held to."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib import metadata

from actors import crash
from actors.errors import InputError, LightmillError, PreconditionFailed, Problem
from actors.models.facts import ModelFacts, describe_model, locate_model
from actors.models.revisions import Commits, look_up, pinned
from actors.models.settings import ModelSettings
from actors.storage.bucket import Bucket, Fence
from actors.storage.probe import StoreClass, probe
from actors.tables.files import absolute
from actors.tables.prompt_filter import read_block_list
from actors.tables.rewrite import rewrite
from actors.tables.routes import route
from actors.tables.source import TableSource, source_version
from actors.tables.table import PromptTable, TableIdentity
from jobs.catalog import list_committed
from jobs.examination import examine
from jobs.lanes import default_threads
from jobs.manifest import KEY, Cards, Manifest, cards_of, fingerprint, promise
from jobs.order import RunOrder
from jobs.plan import Plan

Say = Callable[[str], None]
LIBRARIES = ("lightmill", "ray", "torch", "diffusers", "transformers", "pyarrow")


@dataclass(slots=True)
class Promise:
    """What an output holds already, or what is about to be promised there."""

    order: RunOrder
    manifest: Manifest | None
    source: TableSource | None
    blocked: tuple[str, ...]
    """The entries of the prompt filter's block list."""
    store: StoreClass
    say: Say
    cards: Cards = ()
    """Of what is about to be promised, as are the commits."""
    commits: Commits = field(default_factory=dict)
    is_new: bool = False
    """Whether this run has written it."""

    @property
    def kept(self) -> bool:
        """Whether the output is bound by a manifest."""
        return self.manifest is not None

    def keep(self, bucket: Bucket, fence: Fence) -> Manifest:
        """The manifest of the output, written now if there was none. The caller holds the lease, which `fence` asks."""
        manifest = Manifest.load(bucket)
        if manifest is not None:
            _hold_to(manifest, self.order, self.blocked, bucket)
            return manifest
        manifest = self.manifest or self._new_manifest(bucket)  # what was there may have been taken back since
        crash.point("manifest.put")
        try:
            manifest.write(bucket, fence)
            self.is_new = True
        except PreconditionFailed:  # our own, if its reply was lost; another's is the one that we are held to
            manifest = Manifest.load(bucket)
            assert manifest is not None
            _hold_to(manifest, self.order, self.blocked, bucket)
        crash.point("manifest.done")
        return manifest

    def _new_manifest(self, bucket: Bucket) -> Manifest:
        assert self.source is not None
        table = self._table(self.source, bucket)
        spec = self.order.spec
        lane_rows = tuple(table.lane_rows(lane) for lane in range(len(spec.lanes)))
        plan = Plan(lane_rows, spec.rows_per_shard, spec.images_per_prompt, staged=bool(spec.stages))
        return Manifest(
            spec=spec,
            fingerprint=fingerprint(promise(spec, self.cards, asdict(table.identity), self.blocked)),
            table=table,
            blocked=self.blocked,
            cards=tuple(self.cards),
            lane_rows=lane_rows,
            threads=default_threads(spec, plan.shards, alone=self.order.address is None),
            commits=dict(self.commits),
            rows=table.rows,
            images=plan.images,
            shards=plan.shards,
            store=self.store,
            created_at=datetime.now(UTC),
            versions=library_versions(),
            commit=self.order.commit,
        )

    def _table(self, source: TableSource, bucket: Bucket) -> PromptTable:
        spec = self.order.spec
        if source.needs_rewrite:
            self.say(f"rewriting {source.rows:,} rows to {bucket.url}/prompts/, once")
            table = rewrite(source, bucket, spec.storage)
        else:
            table = source.table()
        if "model" not in spec.overrides:
            return table
        names = [settings.model for settings in spec.lanes]
        routed = route(table.located(bucket.url), spec.columns.get("model", "model"), names, spec.storage)
        return replace(routed, files=table.files)


def make_promise(bucket: Bucket, order: RunOrder, say: Say) -> Promise:
    """See what the output is bound to, or that the job can be promised there. Changes nothing but the probe's traces.

    Raises `InputError` with all that is wrong with the job, its model and its table.
    """
    manifest = Manifest.load(bucket)
    if manifest is not None:
        blocked = _blocked(manifest, order)
        _hold_to(manifest, order, blocked, bucket)
        return Promise(order, manifest, None, blocked, manifest.store, say)
    commits, unsettled = _commits(order)

    def locate(settings: ModelSettings) -> ModelFacts:
        # Nothing is fetched for a job that is refused anyway.
        return describe_model(settings) if unsettled else locate_model(pinned(settings, commits))

    # On a cluster the models are where the workers are, which need not be here.
    examined = examine(order.spec, order.check, locate if order.address is None else None, unsettled)
    if examined.refusals:
        raise InputError(*examined.refusals)
    for note in examined.notes:
        say(str(note))
    store = probe(bucket)
    if store != "strong":
        say(str(_without_preconditions(bucket.url, store)))
    return Promise(order, None, examined.source, examined.blocked, store, say, cards_of(order.spec), commits)


def withdraw(manifest: Manifest, bucket: Bucket, fence: Fence) -> None:
    """Take back what this run has promised and cannot begin, or a job that is mended would be another one. Of an output
    that holds a commit, it stays. Raises what `fence` does, and `StorageError` where it may be taken back yet."""
    if next(list_committed(bucket), None):
        return
    fence()
    bucket.delete(KEY)
    crash.point("manifest.withdrawn")
    try:
        fence()
    except LightmillError:  # frozen right before: whoever has taken over is held to it
        if Manifest.load(bucket) is None:
            manifest.write(bucket, lambda: None)
        raise


def _commits(order: RunOrder) -> tuple[Commits, tuple[Problem, ...]]:
    """What the models' revisions stand for, or why that cannot be told."""
    try:
        return look_up(order.spec.lanes, frozen=order.frozen), ()
    except InputError as error:
        return {}, error.problems


def _without_preconditions(url: str, store: StoreClass) -> Problem:
    does = "ignores conditional writes" if store == "ignoring" else "lets several conditional writes win at once"
    return Problem(
        "LM1306",
        f"the store of {url} {does}: the lease alone keeps a second driver out",
        help="nothing to do; drive this output from one place at a time",
        severity="note",
    )


def _blocked(manifest: Manifest, order: RunOrder) -> tuple[str, ...]:
    """Of a retry as promised, as the list itself may be gone by then."""
    if order.purpose == "retry":
        return manifest.blocked
    return read_block_list(order.spec.prompt_filter, order.spec.storage)


def _hold_to(manifest: Manifest, order: RunOrder, blocked: Sequence[str], bucket: Bucket) -> None:
    if order.purpose == "retry":
        return
    uri = absolute(order.spec.prompts)
    identity = TableIdentity(uri, source_version(uri, order.spec.storage), manifest.table.rows)
    manifest.refuse_another(order.spec, asdict(identity), blocked, bucket.url)


def library_versions() -> dict[str, str]:
    """Of the libraries that make the pictures, as far as they are installed where the driver runs."""
    versions = {}
    for library in LIBRARIES:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return versions
