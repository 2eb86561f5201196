"""Known: the rows that earlier slots of a schedule have committed, as hashes.

`known/<slot>/<number>-<rows>.parquet` has those of one slot, in files of a quarter of a million or more.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from actors.storage.bucket import Bucket, Fence
from cluster.schedule.hashes import Parts, Records, get_records, list_entries, put_records

MOST_SLOTS = 64
"""Above it their files are made into one set: each costs a request for every slot after it."""


class Known:
    """Of one schedule, in its ledger."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._entries = list_entries(bucket, "known/")

    @property
    def rows(self) -> int:
        """About: a row that was made again counts twice."""
        return sum(entry.rows for entry in self._entries)

    def read(self) -> Iterator[Records]:
        """Every file, once, that of the oldest slot first: what is said of an id last holds."""
        return (get_records(self._bucket, entry.key) for entry in self._entries)

    def add(self, slot: str, blocks: Iterable[Records], fence: Fence) -> None:
        """What a slot has committed. Done twice it is the same."""
        put_records(self._bucket, f"known/{slot}", blocks, fence)

    def compact(self, fence: Fence) -> None:
        """Make one set of files of many. Whoever is stopped half-way leaves some rows in two files, as they are."""
        slots = {entry.slot for entry in self._entries}
        if len(slots) <= MOST_SLOTS:
            return
        with TemporaryDirectory(prefix="lightmill-known-") as folder:
            parts = Parts(Path(folder) / "known", self.rows)
            parts.spread(self.read())
            self.add(f"{max(slots)}~", map(parts.latest, range(parts.count)), fence)  # sorts right after the newest
        for entry in self._entries:
            fence()
            self._bucket.delete(entry.key)
