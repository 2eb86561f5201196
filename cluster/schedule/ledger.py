"""Ledger: which slots of a schedule are done. It lies in the store, beside the outputs, and so does its lease.

`schedules/NAME/` stands where the output's template begins to differ from slot to slot: the slots of
`s3://datasets/cats/{date}` are noted under `s3://datasets/cats/schedules/NAME/`. Whoever holds the lease there makes
slots of the schedule, and nobody else does.
"""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

from actors.errors import InputError, NotFound, Problem, StorageError, TooManyFailures
from actors.records import SCHEMA_VERSION
from actors.settings import StorageSettings
from actors.storage.bucket import Bucket, Fence
from actors.storage.opening import FIRST_MEETING_SECONDS, open_bucket
from actors.storage.probe import StoreClass, probe
from cluster.schedule.slot import TEMPLATES, Slot, has_template
from cluster.schedule.timetable import Timetable
from jobs.clean import OLD, old_leases, remove

KEY = "schedule.json"
DONE = frozenset({0, TooManyFailures.exit_code})
"""Exit statuses of a run that has nothing left to make."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """Of a schedule: since when its slots count, by which timetable, and the class of its store."""

    cron: str
    timezone: str
    since: str
    store: StoreClass


class Ledger:
    """Of one schedule."""

    def __init__(self, name: str, output: str, storage: StorageSettings) -> None:
        """`output`: the job's, with its templates. Raises `InputError` (LM1703) if all slots would share one place."""
        self.bucket: Bucket = open_bucket(
            f"{_root(output)}/schedules/{name}", storage, patience_seconds=FIRST_MEETING_SECONDS
        )

    def begin(self, timetable: Timetable, now: datetime) -> Beginning:
        """How the schedule began, as it was noted; or, of a new one or another timetable, as it begins now.

        It begins so that the newest slot is its first: nobody wants those of years ago.
        """
        noted = self._noted()
        if noted and (noted.cron, noted.timezone) == (timetable.cron, timetable.timezone):
            return noted
        (newest,) = timetable.until(now)
        store = noted.store if noted else probe(self.bucket)
        before = datetime.fromtimestamp(newest.timestamp() - 1, newest.tzinfo)
        return Beginning(timetable.cron, timetable.timezone, before.isoformat(), store)

    def keep(self, beginning: Beginning, fence: Fence) -> None:
        """Note how it began. The caller holds the lease, which `fence` asks."""
        if self._noted() != beginning:
            body = {"schema_version": SCHEMA_VERSION, **asdict(beginning)}
            self.bucket.put(KEY, json.dumps(body).encode(), fence=fence)

    def done(self) -> frozenset[str]:
        """The keys of the slots that have nothing left to make. One listing: a slot that failed has no entry."""
        return frozenset(PurePosixPath(info.key).stem for info in self.bucket.list("slots/"))

    def note(self, slot: Slot, outcome: dict[str, Any], fence: Fence) -> None:
        """What a slot came to. One that is to be made again is not noted."""
        if outcome["exit_code"] in DONE:
            body = {"schema_version": SCHEMA_VERSION, **outcome}
            self.bucket.put(f"slots/{slot.key}.json", json.dumps(body).encode(), fence=fence)

    def sweep(self, fence: Fence) -> None:
        """Remove the leases of slots that were over a day ago; each has left one. Who may not delete keeps them."""
        with suppress(StorageError):
            for leftover in old_leases(self.bucket, self.bucket.now() - OLD):
                remove(self.bucket, leftover, fence)

    def _noted(self) -> Beginning | None:
        try:
            body = json.loads(self.bucket.get(KEY))
        except NotFound:
            return None
        return Beginning(**{field: body[field] for field in Beginning.__dataclass_fields__})


def _root(output: str) -> str:
    """What the outputs of all slots have in common, as a folder or prefix."""
    if not has_template(output):
        action = f"write one of {' and '.join(TEMPLATES)} into `output`, such as {output}/{TEMPLATES[0]}"
        raise InputError(Problem("LM1703", "every slot would have the same output", value=output, help=action))
    before = min(output.index(template) for template in TEMPLATES if template in output)
    root = output[:before].rpartition("/")[0]
    if root.endswith(":/") or not root:
        action = "a bucket, or a folder, in which the slots have their places"
        raise InputError(Problem("LM1703", "the template stands too far to the left", value=output, help=action))
    return root
