"""Commands that look at an output and need no cluster: `status`, `verify` and `clean`."""

import json
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from actors.errors import InputError, Problem, RunError
from cluster.cli.app import app, show, talk
from cluster.cli.output import Output, manifest_of, nothing_here

if TYPE_CHECKING:
    from actors.storage.bucket import Bucket
    from jobs.status import Status

AsJson = Annotated[bool, typer.Option("--json", help="As JSON on standard output.")]
OVER = {"finished", "failed", "stopped"}
WATCH_SECONDS = 2.0
STALE_SECONDS = 60.0


@app.command()
def status(
    output: Output,
    watch: Annotated[bool, typer.Option("--watch", help="Go on until the run is over.")] = False,
    as_json: AsJson = False,
) -> None:
    """How far a job is, read from its output: no cluster needs to be alive."""
    from actors.storage.opening import open_bucket
    from cluster.follow import line

    bucket = open_bucket(output)
    found = _status(bucket)
    while watch and found.state not in OVER:
        talk().print(line(found), highlight=False, markup=False, soft_wrap=True)
        time.sleep(WATCH_SECONDS)
        found = _status(bucket)
    if as_json:
        sys.stdout.write(found.model_dump_json() + "\n")
        return
    sys.stdout.write(line(found) + "\n")
    age = (bucket.now() - found.updated_at).total_seconds()
    if found.state not in OVER and age > STALE_SECONDS:
        talk().print(f"no heartbeat for {age:.0f} s: the driver may be gone; run the job again to resume it")


@app.command()
def verify(
    output: Output,
    sample: Annotated[float, typer.Option(min=0, max=1, help="Share of the shards to read back.")] = 1.0,
    as_json: AsJson = False,
) -> None:
    """Read an output back: every promised image once, every hash, offset and count. A fault is exit status 1."""
    from jobs.verify import verify as check

    bucket, manifest = manifest_of(output)
    faults: list[Problem] = []
    orphans: list[str] = []
    images = size = 0
    for checked in check(bucket, manifest, sample):
        faults += checked.faults
        orphans += checked.orphans
        images += checked.images
        size += checked.bytes
    if as_json:
        found = {"images": images, "bytes": size, "faults": [fault.to_dict() for fault in faults], "orphans": orphans}
        sys.stdout.write(json.dumps({"schema_version": manifest.schema_version, **found}) + "\n")
    words = talk()
    words.print(f"{images:,} of {manifest.images:,} rows read back, {size / 1e6:,.1f} MB of images", highlight=False)
    if orphans:
        what = f"{len(orphans):,} files that no committed shard names"
        words.print(f"{what}: no fault, readers do not see them; `lightmill clean` removes those older than a day")
    if faults:
        show(tuple(faults))
        raise typer.Exit(RunError.exit_code)
    words.print("sound")


@app.command()
def clean(
    output: Output,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove files that no committed shard names, old leases and unfinished uploads, all older than a day."""
    from jobs.clean import find_leftovers, remove
    from jobs.lease import Lease

    bucket, manifest = manifest_of(output)
    if dry_run:
        leftovers = list(find_leftovers(bucket, manifest))
    else:
        with Lease(bucket, manifest.store, "clean", talk().print) as lease:
            leftovers = list(find_leftovers(bucket, manifest))
            for leftover in leftovers:
                remove(bucket, leftover, lease.require)
    if as_json:
        rows = [{"key": leftover.key, "bytes": leftover.bytes, "reason": leftover.reason} for leftover in leftovers]
        found = {"schema_version": manifest.schema_version, "removed": not dry_run, "leftovers": rows}
        sys.stdout.write(json.dumps(found) + "\n")
        return
    for leftover in leftovers:
        sys.stdout.write(f"{leftover.key}  ({leftover.reason})\n")
    size = sum(leftover.bytes for leftover in leftovers)
    talk().print(f"{len(leftovers):,} files, {size / 1e6:,.1f} MB {'to be removed' if dry_run else 'removed'}")


def _status(bucket: "Bucket") -> "Status":
    from jobs.status import Status

    found = Status.load(bucket)
    if found is None:
        raise InputError(nothing_here(bucket.url))
    return found
