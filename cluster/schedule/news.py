"""News: of a job that is `only_new`, the rows that no earlier slot has committed, or that are not as they were then.

The table is read twice: once to hash each row, and once to copy those that are wanted into the output, as the table of
the slot. Between the two the hashes lie on the disk of this machine (80 bytes a row), and one part of them, with what
is known of it, in memory, beside one byte for each row.
"""

import io
import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from actors.errors import InputError, NotFound, Problem
from actors.metadata import read_statuses
from actors.storage.bucket import Bucket, Fence
from actors.storage.opening import open_bucket
from actors.tables.source import TableSource, open_source
from actors.tables.stream import stream
from cluster.schedule.known import (
    RECORD,
    Known,
    Records,
    get_records,
    list_entries,
    parts_for,
    put_records,
    scatter,
)
from jobs.spec import JobSpec

FILES = ("image", "mask_image", "depth_map")
PART_BYTES = 64 << 20
GROUP_ROWS = 65_536
SEPARATOR = "\x1f"
KNOWN, NEW, CHANGED = 0, 1, 2


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
        return News(**json.loads(ledger.get(_note(slot))))
    except NotFound:
        pass
    if files := [name for name in spec.overrides if name in FILES]:
        action = "leave one of the two out: the table of a slot is a copy, and lies elsewhere"
        raise InputError(Problem("LM1710", "only_new and input images do not go together", value=files[0], help=action))
    for info in list(ledger.list(f"pending/{slot}/")):
        ledger.delete(info.key)  # of an attempt that ended in between
    source, known = open_source(spec.prompts, spec.storage), Known(ledger)
    with tempfile.TemporaryDirectory(prefix="lightmill-news-") as folder:
        parts = parts_for(max(source.rows, known.rows))
        hashes = Path(folder) / "all"
        _hash_all(source, spec, hashes, Path(folder), parts)
        fate = np.zeros(source.rows, np.uint8)
        for part in range(parts):
            _judge(Path(folder) / str(part), known.read(part, parts), fate)
        counts = np.bincount(fate, minlength=3)
        prompts = _copy(source, spec, fate) if counts[NEW] + counts[CHANGED] else ""
        _keep(hashes, fate, ledger, slot, Path(folder), fence)
    news = News(prompts, int(counts[NEW]), int(counts[CHANGED]), int(counts[KNOWN]))
    ledger.put(_note(slot), json.dumps(asdict(news)).encode(), fence=fence)
    return news


def settle(spec: JobSpec, ledger: Bucket, slot: str, fence: Fence) -> int:
    """Note the rows of a finished slot as known, but those that failed; how many those are. Twice is as once."""
    failed = _failed(open_bucket(spec.output, spec.storage))
    known = Known(ledger)
    for entry in list_entries(ledger, f"pending/{slot}/"):
        records = get_records(ledger, entry.key)
        known.add(slot, entry.part, entry.parts, records[~np.isin(records["row"], failed)], fence)
    Known(ledger).compact(fence)
    for info in list(ledger.list(f"pending/{slot}/")):
        if info.key != _note(slot):  # which says until the end that the slot has its table
            ledger.delete(info.key)
    return len(failed)


def _note(slot: str) -> str:
    return f"pending/{slot}/news.json"


def _hash_all(source: TableSource, spec: JobSpec, hashes: Path, folder: Path, parts: int) -> None:
    """Every row's hashes, in the order of the table, and once more by parts."""

    def blocks(whole: Any) -> Iterator[Records]:  # noqa: ANN401 - a file
        for batch in stream(source, spec.storage):
            records = _records(batch.table, spec, batch.first_row)
            whole.write(records.tobytes())
            yield records

    with hashes.open("wb") as whole, ExitStack() as files:
        opened: dict[int, Any] = {}
        for part, records in scatter(blocks(whole), parts):
            if part not in opened:
                opened[part] = files.enter_context((folder / str(part)).open("wb"))
            opened[part].write(records.tobytes())


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


def _judge(path: Path, known: dict[bytes, bytes], fate: NDArray[np.uint8]) -> None:
    """Say of each row of a part whether it is known, new or changed."""
    if not path.exists():
        return
    records = np.fromfile(path, RECORD)
    before = map(known.get, records["id"].tolist())
    fate[records["row"]] = [
        NEW if old is None else KNOWN if old == now else CHANGED
        for old, now in zip(before, records["content"].tolist(), strict=True)
    ]


def _copy(source: TableSource, spec: JobSpec, fate: NDArray[np.uint8]) -> str:
    """The wanted rows as Parquet in the output; the name of all these files."""
    bucket = open_bucket(spec.output, spec.storage)
    stem = f"prompts/new-{uuid4().hex[:12]}"
    number, sink = 0, io.BytesIO()
    writer = pq.ParquetWriter(sink, source.schema, compression="zstd")
    for batch in stream(source, spec.storage):
        wanted = batch.table.filter(pa.array(fate[batch.first_row :][: batch.table.num_rows] != KNOWN))
        if wanted.num_rows:
            writer.write_table(wanted, row_group_size=GROUP_ROWS)
        if sink.tell() > PART_BYTES:
            writer.close()
            bucket.put(f"{stem}-{number:06d}.parquet", sink.getvalue())
            number, sink = number + 1, io.BytesIO()
            writer = pq.ParquetWriter(sink, source.schema, compression="zstd")
    writer.close()
    bucket.put(f"{stem}-{number:06d}.parquet", sink.getvalue())
    return f"{bucket.url}/{stem}-*.parquet"


def _keep(hashes: Path, fate: NDArray[np.uint8], ledger: Bucket, slot: str, folder: Path, fence: Fence) -> None:
    """The hashes of the wanted rows, numbered as in the slot's own table, until it is known what became of them."""
    parts = parts_for(int(np.count_nonzero(fate)))

    def blocks() -> Iterator[Records]:
        first = 0
        for start in range(0, len(fate), GROUP_ROWS):
            here = fate[start : start + GROUP_ROWS] != KNOWN
            records = np.fromfile(hashes, RECORD, count=len(here), offset=start * RECORD.itemsize)[here]
            records["row"] = np.arange(first, first + len(records))
            first += len(records)
            yield records

    with ExitStack() as files:
        opened: dict[int, Any] = {}
        for part, records in scatter(blocks(), parts):
            if part not in opened:
                opened[part] = files.enter_context((folder / f"kept-{part}").open("wb"))
            opened[part].write(records.tobytes())
    for part in sorted(opened):
        put_records(ledger, f"pending/{slot}", part, parts, np.fromfile(folder / f"kept-{part}", RECORD), fence)


def _failed(output: Bucket) -> NDArray[np.int64]:
    """Rows of the slot's own table of which an image failed."""
    found: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    for info in output.list("metadata/"):
        with output.open(info.key) as opened:
            rows, statuses = read_statuses(opened)
        found.append(rows[statuses == "failed"])
    return np.unique(np.concatenate(found))
