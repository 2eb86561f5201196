"""The store of an output: our rights there, how it takes two writers at once, its clock, its checksums."""

from collections.abc import Iterator
from datetime import UTC, datetime

from actors.errors import Problem, StorageError
from actors.settings import StorageSettings
from actors.storage.opening import FIRST_MEETING_SECONDS, open_bucket
from actors.storage.probe import StoreClass, probe
from actors.storage.rights import try_checksums, try_rights
from cluster.doctor.findings import Fact, Finding

TOLERATED_SECONDS = 60.0
"""Of two clocks. Leases go by the store's alone; at 15 minutes it refuses requests."""
CLASSES: dict[StoreClass, str] = {
    "strong": "strong: of several writers at once one wins",
    "racy": "racy: several writers at once may all win",
    "ignoring": "ignored: every writer wins",
}
CHECKSUMS = {
    "checked": "checked: what does not match its SHA-256 is refused",
    "ignored": "taken, and not checked",
    "refused": "refused",
}


def examine(output: str, settings: StorageSettings) -> Iterator[Finding]:
    """What a run would ask of the store, asked in small. Leaves nothing there."""
    bucket = open_bucket(output, settings, patience_seconds=FIRST_MEETING_SECONDS)
    trials = []
    for trial in try_rights(bucket):
        trials.append(trial)
        if trial.refusal:
            yield from trial.refusal.problems
        yield Fact(trial.right, "no" if trial.refusal else "yes")
    if any(trial.refusal for trial in trials):
        return
    try:
        yield from _conditions(bucket.url, probe(bucket))
        yield from _clock(bucket.now())
        if (checksums := try_checksums(bucket)) is not None:
            yield Fact("checksums", CHECKSUMS[checksums])
    except StorageError as error:
        yield from error.problems


def _conditions(url: str, found: StoreClass) -> Iterator[Finding]:
    yield Fact("conditional writes", CLASSES[found])
    if found != "strong":
        what = f"conditional writes of {url} are {CLASSES[found]}; the lease alone keeps a second driver out"
        yield Problem("LM1850", what, help="nothing to do; drive an output from one place at a time", severity="note")


def _clock(now: datetime) -> Iterator[Finding]:
    ahead = (datetime.now(UTC) - now).total_seconds()
    side = "ahead of" if ahead > 0 else "behind"
    yield Fact("clock", f"{abs(ahead):.1f} s {side} the store's")
    if abs(ahead) > TOLERATED_SECONDS:
        what = f"this machine's clock is {abs(ahead):.0f} s {side} the store's"
        yield Problem("LM1847", what, help="set the clock, and keep it set with NTP", severity="warning")
