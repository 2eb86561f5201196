"""Run: one driver's way from the order to the exit status."""

import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from actors.errors import (
    InputError,
    LightmillError,
    Problem,
    Stopped,
    StorageError,
    TooManyFailures,
    as_ours,
)
from actors.logs import LogFile
from actors.parents import ORPHANED
from actors.storage.bucket import Bucket
from actors.storage.opening import FIRST_MEETING_SECONDS, open_bucket
from jobs import dataset_card, index
from jobs.catalog import Catalog
from jobs.commit import Committer
from jobs.driver import Driver
from jobs.engine import Workers, ray_workers
from jobs.fidelity import Fidelity
from jobs.index import Totals
from jobs.lanes import lane_recipes, lane_workers
from jobs.lease import Lease
from jobs.leash import Leash
from jobs.manifest import Manifest
from jobs.order import RunOrder
from jobs.promise import make_promise, withdraw
from jobs.retry import IN_VAIN, Rework, find_failures, in_vain, is_lasting
from jobs.status import Progress
from jobs.stop import StopWatch
from jobs.work import Work

Words = dict[str, Any]

STOPPED = {
    "run": "stopped; `lightmill run` with the same job makes what is missing",
    "submit": "stopped; `lightmill submit` with the same job makes what is missing",
    "retry": "stopped; the same `lightmill retry` makes what is left",
}
RETRIED = "retried, but the job itself is not finished; `lightmill run` with the same job makes what is missing"


def run(order: RunOrder, leash: Leash, workers: Workers = ray_workers) -> int:
    """Do what the order says, tell the leash how it goes, and return the exit status."""
    begun = time.monotonic()
    try:
        words = _Run(order, leash, workers).go()
        exit_code: int = words.pop("exit_code", 0)
    except Exception as error:  # noqa: BLE001  whatever it is, whoever started the run gets a last word
        if order.debug:
            traceback.print_exc()
        failure = as_ours(error)
        if _is_given_up(failure, leash):
            leash.say(f"given up: {failure.problems[0].message}")
            words, exit_code = {"message": _stopped(order)}, leash.exit_code
        else:
            leash.fail(failure)
            words, exit_code = {"message": _unfinished(failure)}, failure.exit_code
    leash.end(exit_code, {**words, "wall": round(time.monotonic() - begun, 3)})
    return exit_code


class _Run:
    """The steps of a run, which share an output."""

    def __init__(self, order: RunOrder, leash: Leash, workers: Workers) -> None:
        self._order = order
        self._leash = leash
        self._workers = workers
        self._bucket: Bucket = open_bucket(order.spec.output, order.spec.storage, wanted=self._is_wanted)

    def _is_wanted(self) -> bool:
        """Once it is stopped, a run waits for nobody."""
        return not self._leash.stopping.is_set()

    def go(self) -> Words:
        """Promise, generate and finish, as far as each is still to be done; then the words for the end."""
        spec = self._order.spec
        met = open_bucket(spec.output, spec.storage, patience_seconds=FIRST_MEETING_SECONDS, wanted=self._is_wanted)
        promise = make_promise(met, self._order, self._leash.say)
        if promise.kept and self._order.purpose == "run" and (totals := index.read_totals(self._bucket)):
            return self._end(totals, "everything is already there: nothing was generated")
        with (
            Lease(self._bucket, promise.store, self._order.purpose, self._leash.say, wanted=self._is_wanted) as lease,
            LogFile(self._bucket, "driver"),
            StopWatch(self._bucket, lease.token, self._leash),
        ):
            manifest = promise.keep(self._bucket, lease.require)
            if self._order.purpose == "retry":
                return self._retry(manifest, lease)
            catalog = Catalog.read(self._bucket, manifest.shards)
            try:
                return self._make(manifest, lease, catalog, manifest.plan.images_of(catalog))
            except InputError:
                if promise.is_new:
                    self._withdraw(manifest, lease)
                raise

    def _withdraw(self, manifest: Manifest, lease: Lease) -> None:
        """So that the mended job may be promised in its place. The refusal is what is to be heard of, not this."""
        if lease.is_in_doubt:
            return
        try:
            withdraw(manifest, self._bucket, lease.require)
        except StorageError:
            lease.is_in_doubt = True  # it may be deleted yet
        except LightmillError as error:
            self._leash.say(error.problems[0].message)

    def _retry(self, manifest: Manifest, lease: Lease) -> Words:
        failures = find_failures(self._bucket, self._order.only)
        if failures.bad_rows:
            self._leash.say(str(in_vain(failures, self._bucket.url)))
        there = Catalog.read(self._bucket, manifest.shards)
        if not failures.rework and not self._lacks_its_end(there):
            other = "other " if failures.bad_rows else ""
            return {"message": f"nothing to retry: no {other}committed row is {self._order.only}"}
        index.remove(self._bucket, lease.require)
        catalog = Catalog.all_but(failures.rework.keys(), manifest.shards)
        before = manifest.plan.images_of(there) - sum(len(rework.keys) for rework in failures.rework.values())
        return self._make(manifest, lease, catalog, before, failures.rework)

    def _lacks_its_end(self, there: Catalog) -> bool:
        """Whether all is made, and a retry was stopped before it said so."""
        return there.complete and index.read_totals(self._bucket) is None

    def _make(
        self,
        manifest: Manifest,
        lease: Lease,
        catalog: Catalog,
        before: int,
        rework: Mapping[int, Rework] | None = None,
    ) -> Words:
        """Make all that the catalog lacks; `before` are the images that are there and stay."""
        progress = Progress(
            self._bucket,
            manifest.spec.name,
            manifest.images,
            before,
            lambda: lease.is_fresh,
            lease.token,
            self._order.submission or "",
        )
        progress.heartbeat(self._leash.status)  # before Ray starts: until then the last run's word would stand
        try:
            if not catalog.complete:
                self._generate(manifest, Committer(self._bucket, lease, manifest.store), catalog, progress, rework)
            progress.state = "finished" if catalog.complete else "stopped"
            words = self._end(self._finish(manifest, lease) if catalog.complete else None, "finished")
            progress.exit_code = words.get("exit_code", 0)
        except Exception as error:
            failure = as_ours(error)
            given_up = _is_given_up(failure, self._leash)
            progress.state = "stopped" if given_up else "failed"
            progress.message = failure.problems[0].message
            progress.exit_code = self._leash.exit_code if given_up else failure.exit_code
            raise
        finally:
            progress.close()
        return {**words, **progress.made()}

    def _generate(
        self,
        manifest: Manifest,
        committer: Committer,
        catalog: Catalog,
        progress: Progress,
        rework: Mapping[int, Rework] | None,
    ) -> None:
        spec = self._order.spec
        fidelity = Fidelity.read(self._bucket, manifest.plan, rework or catalog)
        with self._workers(self._order) as (pool, gpus):
            recipes = lane_recipes(manifest, spec, gpus)
            work = Work(
                plan=manifest.plan,
                recipes=recipes,
                workers=tuple(lane_workers(recipe, gpus) for recipe in recipes),
                catalog=catalog,
                committer=committer,
                max_attempts=spec.limits.max_attempts,
                fidelity=fidelity,
                rework=rework,
            )
            Driver(work, pool, progress, self._leash).run()
        progress.spent(pool.spent)

    def _finish(self, manifest: Manifest, lease: Lease) -> Totals | None:
        """Write what a finished job has; every worker of this driver has ended. None while shards are missing."""
        if not Catalog.read(self._bucket, manifest.shards).complete:
            return None  # of a retry before the job was finished

        def publish(totals: Totals) -> None:
            dataset_card.write(self._bucket, manifest, totals, index.containers(self._bucket))

        return index.build(self._bucket, lease.require, publish)

    def _end(self, totals: Totals | None, message: str) -> Words:
        if totals is None:
            stopped = self._leash.stopping.is_set()
            message = _stopped(self._order) if stopped else RETRIED
            return {"message": message, "exit_code": self._leash.exit_code if stopped else 0}
        words: Words = {"message": message, "totals": asdict(totals)}
        allowed = self._order.spec.limits.max_failed_share
        if totals.failed_share > allowed:
            self._leash.fail(TooManyFailures(_too_many(self._bucket.url, totals, allowed)))
            words["exit_code"] = TooManyFailures.exit_code
        return words


def _is_given_up(error: LightmillError, leash: Leash) -> bool:
    """Whether this is what comes of a stop, which waits for no store."""
    return leash.stopping.is_set() and isinstance(error, Stopped | StorageError)


def _stopped(order: RunOrder) -> str:
    return STOPPED["submit" if order.submission else order.purpose]


def _unfinished(error: LightmillError) -> str:
    if error.problems[0].code == "LM1311":
        return "nothing was done here; the other driver goes on"
    if isinstance(error, InputError):
        return "refused; once what is named is mended, the same command goes on"
    return "not finished; what is committed stays, and the same command resumes"


def _too_many(url: str, totals: Totals, allowed: float) -> Problem:
    again = f"see error_code in the metadata; `lightmill retry {url}` makes the failed ones again"
    return Problem(
        "LM1611",
        f"{totals.failed:,} of {totals.images:,} images failed ({totals.failed_share:.1%}), {allowed:.1%} are allowed",
        where=url,
        help=IN_VAIN if all(is_lasting(code) for code in totals.errors if code != ORPHANED) else again,
    )
