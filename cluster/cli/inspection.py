"""Commands that look at an output and need no cluster: `status`, `verify` and `clean`."""

import random
import time
from typing import TYPE_CHECKING, Annotated

import typer

from actors.errors import InputError, Problem, RunError
from cluster.cli.app import app, emit, say, show, talk, tell
from cluster.cli.connection import Connection, Where, find, takes_connection
from cluster.cli.output import Output, manifest_of, nothing_here
from cluster.words import count, duration, shares, size

if TYPE_CHECKING:
    from actors.storage.bucket import Bucket
    from jobs.clean import Leftover
    from jobs.manifest import Manifest
    from jobs.status import Status

AsJson = Annotated[bool, typer.Option("--json", help="As JSON on standard output.")]
SEEDS = 1_000_000
"""So many samples, of numbers short enough to be typed."""
WATCH_SECONDS = 2.0


@app.command(epilog="Example: lightmill status s3://datasets/cats-v1 --watch")
@takes_connection
def status(
    where: Where,
    connection: Connection,
    watch: Annotated[bool, typer.Option("--watch", help="Go on until the run is over.")] = False,
    as_json: AsJson = False,
) -> None:
    """How far a job is, read from its output: no cluster needs to be alive."""
    from cluster.watch import silence

    bucket = find(where, connection).bucket
    found = _watch(bucket) if watch else _status(bucket)
    silent = silence(bucket, found)
    if as_json:
        emit({**found.model_dump(mode="json"), "silent_seconds": round(silent, 1) if silent else None})
    else:
        tell(_report(found))
    if silent and not watch:
        say(_silent(silent))


@app.command(epilog="Example: lightmill verify out --sample 0.01")
def verify(
    output: Output,
    sample: Annotated[float, typer.Option(min=0, max=1, help="Share of the shards to read back.")] = 1.0,
    seed: Annotated[int | None, typer.Option(help="Of the sample: the same seed, the same shards.")] = None,
    as_json: AsJson = False,
) -> None:
    """Read an output back: every promised image once, every hash, offset and count. A fault is exit status 1."""
    from jobs.verify import verify as check

    bucket, manifest = manifest_of(output)
    if sample == 1:
        seed = None  # nothing is left to chance
    elif seed is None:
        seed = random.randrange(SEEDS)  # noqa: S311 - no secret
    faults: list[Problem] = []
    orphans: list[str] = []
    images = read = 0
    for checked in check(bucket, manifest, sample, seed):
        faults += checked.faults
        orphans += checked.orphans
        images += checked.images
        read += checked.bytes
    if as_json:
        listed = [fault.to_dict() for fault in faults]
        found = {"images": images, "bytes": read, "faults": listed, "orphans": orphans}
        emit({"sound": not faults, "sample": sample, "seed": seed, **found})
    else:
        which = "" if seed is None else f", a sample of the shards (--sample {sample:g} --seed {seed})"
        tell([f"{images:,} of {count(manifest.images, 'row')} read back, {size(read)} of images{which}"])
    if orphans:
        what = f"{count(len(orphans), 'file')} that no committed shard names"
        say(f"{what}: no fault, readers do not see them; `lightmill clean` removes those older than a day")
    if faults:
        show(faults)
        say(f"not sound: {count(len(faults), 'fault')}")
        raise typer.Exit(RunError.exit_code)
    say("sound")


@app.command(epilog="Example: lightmill clean out --dry-run")
def clean(
    output: Output,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove files that no committed shard names, old leases and unfinished uploads, all older than a day."""
    bucket, manifest = manifest_of(output)
    leftovers = _find(bucket, manifest) if dry_run else _remove(bucket, manifest)
    if as_json:
        rows = [{"key": leftover.key, "bytes": leftover.bytes, "reason": leftover.reason} for leftover in leftovers]
        emit({"removed": not dry_run, "leftovers": rows})
    else:
        tell(f"{leftover.key}  ({leftover.reason})" for leftover in leftovers)
    freed = size(sum(leftover.bytes for leftover in leftovers))
    say(f"{count(len(leftovers), 'file')}, {freed} {'to be removed' if dry_run else 'removed'}")


def _find(bucket: "Bucket", manifest: "Manifest") -> "list[Leftover]":
    from jobs.clean import find_leftovers

    return list(find_leftovers(bucket, manifest))


def _remove(bucket: "Bucket", manifest: "Manifest") -> "list[Leftover]":
    from jobs.clean import remove
    from jobs.lease import Lease

    with Lease(bucket, manifest.store, "clean", say) as lease:
        leftovers = _find(bucket, manifest)
        for leftover in leftovers:
            remove(bucket, leftover, lease.require)
    return leftovers


def _status(bucket: "Bucket") -> "Status":
    from cluster.watch import read_status

    found = read_status(bucket)
    if found is None:
        raise InputError(nothing_here(bucket.url))
    return found


def _watch(bucket: "Bucket") -> "Status":
    """Show the run as `run` itself does, until it is over."""
    from cluster.follow import OVER, follower
    from cluster.watch import Outage, silence

    told, found = False, _status(bucket)
    with follower(talk()) as shown:
        outage = Outage(shown.say)
        while found.state not in OVER:
            with outage.minded():
                shown.show(found)
                silent = silence(bucket, found)
                if silent and not told:
                    shown.say(_silent(silent))
                told = silent is not None
            time.sleep(WATCH_SECONDS)
            with outage.minded():
                found = _status(bucket)
    return found


def _silent(seconds: float) -> str:
    return f"no heartbeat for {duration(seconds)}: the driver may be gone; run the job again to resume it"


def _report(found: "Status") -> list[str]:
    from cluster.follow import line

    lines = [f"{found.name}  {line(found)}"]
    if found.message:
        lines.append(f"  because   {found.message}")
    if found.submission:
        lines.append(f"  job       {found.submission}")
    if found.seconds:
        lines.append(f"  workers   {shares(found.seconds)}")
    return [*lines, f"  written   {found.updated_at:%Y-%m-%d %H:%M:%S} UTC", f"  output    {found.output}"]
