"""News: of a job that is `only_new`, the rows that no earlier slot has committed, or that are not as they were then.

The table is read twice: once to hash each row, and once to copy those that are wanted into the output, as the table of
the slot. In between its hashes, and those that are known, lie on the disk of this machine, 40 bytes a row; in memory is
one part of them at a time, beside one bit for each row of the table.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from actors.errors import InputError, NotFound, Problem
from actors.metadata import read_statuses
from actors.storage.bucket import Bucket, Fence
from actors.storage.opening import open_bucket
from actors.tables.rewrite import pack
from actors.tables.source import TableSource, open_source
from actors.tables.stream import stream
from cluster.schedule.hashes import RECORD, Parts, Records, array, get_records, list_entries, put_records
from cluster.schedule.known import Known
from cluster.schedule.rowset import RowSet
from jobs.catalog import list_committed
from jobs.spec import JobSpec

FILES = ("image", "mask_image", "depth_map")
SEPARATOR = "\x1f"


@dataclass(frozen=True, slots=True)
class News:
    """What there is to be made in a slot. `prompts` is the table of it, empty where there is nothing."""

    prompts: str
    new: int
    changed: int
    known: int

    def __str__(self) -> str:
        return f"{self.new:,} new rows, {self.changed:,} changed, {self.known:,} made before"


def pick(spec: JobSpec, ledger: Bucket, slot: str, fence: Fence) -> News:
    """The slot's own table, written once: a slot that is resumed has the one that it began with.

    Raises `InputError` for a table that cannot be read, and for input images, whose paths would lead elsewhere.
    """
    try:
        return _noted(ledger, slot)
    except NotFound:
        pass
    if files := [name for name in spec.overrides if name in FILES]:
        action = "leave one of the two out: the table of a slot is a copy, and lies elsewhere"
        raise InputError(Problem("LM1710", "only_new and input images do not go together", value=files[0], help=action))
    for info in list(ledger.list(f"pending/{slot}/")):
        ledger.delete(info.key)  # of an attempt that ended in between
    source, known = open_source(spec.prompts, spec.storage), Known(ledger)
    with TemporaryDirectory(prefix="lightmill-news-") as folder:
        most = max(source.rows, known.rows)
        table, before = Parts(Path(folder) / "table", most), Parts(Path(folder) / "known", most)
        table.spread(_records(batch.table, spec, batch.first_row) for batch in stream(source, spec.storage))
        before.spread(known.read())
        wanted, new, changed = _compare(table, before, source.rows)
        prompts = _copy(source, spec, wanted) if new + changed else ""
        _keep(table, wanted, ledger, slot, fence)
    news = News(prompts, new, changed, source.rows - new - changed)
    ledger.put(_note(slot), json.dumps(asdict(news)).encode(), fence=fence)
    return news


def settle(spec: JobSpec, ledger: Bucket, slot: str, fence: Fence) -> int:
    """Note the rows of a finished slot as known, but those that failed; how many those are. Twice is as once."""
    news = _noted(ledger, slot)
    failed = _failed(open_bucket(spec.output, spec.storage), news.new + news.changed)
    pending = (get_records(ledger, entry.key) for entry in list_entries(ledger, f"pending/{slot}/"))
    made = (records[~failed.has(records["row"])] for records in pending)
    Known(ledger).add(slot, made, fence)
    Known(ledger).compact(fence)
    for info in list(ledger.list(f"pending/{slot}/")):
        if info.key != _note(slot):  # which says until the end that the slot has its table
            ledger.delete(info.key)
    return len(failed)


def _note(slot: str) -> str:
    return f"pending/{slot}/news.json"


def _noted(ledger: Bucket, slot: str) -> News:
    return News(**json.loads(ledger.get(_note(slot))))


def _records(table: pa.Table, spec: JobSpec, first_row: int) -> Records:
    """Hashes of the id, and of the prompt and whatever else steers a row; without ids the latter are both."""
    names = [spec.columns.get(name, name) for name in ("prompt", *spec.overrides)]
    columns = [table[name].to_pylist() for name in names if name in table.column_names]
    contents = [_hash(SEPARATOR.join(map(repr, row))) for row in zip(*columns, strict=True)]
    id_name = spec.columns.get("id", "id")
    ids = [_hash(str(one)) for one in table[id_name].to_pylist()] if id_name in table.column_names else contents
    records = np.zeros(table.num_rows, RECORD)
    records["row"] = np.arange(first_row, first_row + table.num_rows)
    records["id"], records["content"] = (np.frombuffer(b"".join(one), "V16") for one in (ids, contents))
    return records


def _hash(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _compare(table: Parts, known: Parts, rows: int) -> tuple[RowSet, int, int]:
    """The rows that are wanted; how many are new, and how many have changed."""
    wanted, new, changed = RowSet(rows), 0, 0
    for part in range(table.count):
        before = known.latest(part)
        for now in table.read(part):
            found = pc.index_in(array(now["id"]), value_set=array(before["id"]))
            same = pc.equal(array(before["content"]).take(found), array(now["content"]))
            wanted.add(now["row"][~same.fill_null(False).to_numpy(zero_copy_only=False)])
            new, changed = new + same.null_count, changed + same.false_count
    return wanted, new, changed


def _copy(source: TableSource, spec: JobSpec, wanted: RowSet) -> str:
    """The wanted rows as Parquet in the output; the name of all these files."""
    bucket = open_bucket(spec.output, spec.storage)
    stem = f"prompts/new-{uuid4().hex[:12]}"

    def tables() -> Iterator[pa.Table]:
        for batch in stream(source, spec.storage):
            rows = np.arange(batch.first_row, batch.first_row + batch.table.num_rows)
            yield batch.table.filter(pa.array(wanted.has(rows)))

    for number, (data, _) in enumerate(pack(tables(), source.schema)):
        bucket.put(f"{stem}-{number:06d}.parquet", data)
    return f"{bucket.url}/{stem}-*.parquet"


def _keep(table: Parts, wanted: RowSet, ledger: Bucket, slot: str, fence: Fence) -> None:
    """The hashes of the wanted rows, numbered as in the slot's own table, until it is known what became of them."""
    place = wanted.places()

    def kept() -> Iterator[Records]:
        for part in range(table.count):
            for records in table.read(part):
                mine = records[wanted.has(records["row"])]
                mine["row"] = place(mine["row"])
                yield mine

    put_records(ledger, f"pending/{slot}", kept(), fence)


def _failed(output: Bucket, rows: int) -> RowSet:
    """Of the slot's own table, which has so many rows, those of which an image failed."""
    failed = RowSet(rows)
    for info in list_committed(output):
        with output.open(info.key) as opened:
            numbers, statuses = read_statuses(opened)
        failed.add(numbers[statuses == "failed"])
    return failed
