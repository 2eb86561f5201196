"""Lookup: single rows of the metadata, found without reading the rest of it.

Where the place of a row follows from its number, which keys have and the ids of a table without ids are, one shard is
opened. Other ids are looked for in all of them: of each shard the columns `id` and `key` are decoded, and no others
unless the row is there. Memory does not grow with the job.
"""

import difflib
import math
import random
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from actors import metadata
from actors.errors import InputError, Problem, Stopped
from actors.storage.bucket import Bucket, Wanted, always
from actors.tables.columns import use_columns
from jobs.catalog import Catalog, list_committed
from jobs.manifest import Manifest
from jobs.readers import read_all

Row = dict[str, Any]
KEY = re.compile(r"(\d{12,})-(\d{4,})-(\d{2,})")
CLOSE_AMONG = 1_000_000
"""Ids among which those are looked for that were perhaps meant: they take some ten seconds."""


class Lookup:
    """The rows of one output. Every search raises `Stopped` once it is no longer `wanted`."""

    def __init__(self, bucket: Bucket, manifest: Manifest, wanted: Wanted = always) -> None:
        self._bucket = bucket
        self._wanted = wanted
        self._manifest = manifest
        self._plan = manifest.plan

    def find(self, names: Collection[str]) -> list[Row]:
        """All committed rows with one of these ids or keys, in the order of table, image and lane."""
        files = self._files_by_number(names)
        if files is None:
            files = (info.key for info in list_committed(self._bucket))
        wanted = pa.array(sorted(names), pa.string())

        def named(columns: pa.Table) -> Sequence[int]:
            chosen = pc.or_(pc.is_in(columns["id"], wanted), pc.is_in(columns["key"], wanted))
            return _places(chosen)

        found = read_all(files, lambda key: self._rows(key, named))
        return sorted((row for rows in found for row in rows), key=_order)

    def all(self) -> Iterator[list[Row]]:
        """Every committed row, shard by shard."""
        files = (info.key for info in list_committed(self._bucket))
        for key in files:
            yield self._rows(key, lambda columns: range(columns.num_rows))

    def sample(self, images: int) -> Iterator[list[Row]]:
        """So many of the promised images, always the same, as far as their shards are committed."""
        chosen: defaultdict[int, set[int]] = defaultdict(set)
        everything = range(self._plan.images)
        for number in random.Random(0).sample(everything, min(images, len(everything))):  # noqa: S311 - no secret
            shard, place = self._place(number)
            chosen[shard].add(place)
        catalog = Catalog.read(self._bucket, self._plan.shards)
        for shard in sorted(chosen):
            if shard in catalog:
                places = chosen[shard]
                key = metadata.key(self._plan.shard(shard))
                yield self._rows(key, lambda columns, of=places: [n for n in sorted(of) if n < columns.num_rows])  # type: ignore[misc]

    def first(self, prompts: int) -> list[str]:
        """The ids of the first prompts of the table that have rows, whatever became of them."""
        found: dict[int, str] = {}
        rows = math.ceil(prompts / self._plan.rows_per_shard)
        for lane in range(len(self._plan.lane_rows)):
            for index in self._plan.lane_shards(lane)[:rows]:
                key = metadata.key(self._plan.shard(index))
                if self._bucket.head(key):
                    for row in self._rows(key, lambda columns: range(columns.num_rows)):
                        found[row["source_row"]] = row["id"]
        return [found[number] for number in sorted(found)[:prompts]]

    def close_to(self, name: str) -> list[str]:
        """Up to three ids that somebody may have meant, of the first million."""
        close: list[str] = []
        seen = 0
        for rows in read_all((info.key for info in list_committed(self._bucket)), self._ids):
            close = difflib.get_close_matches(name, dict.fromkeys([*close, *rows]), n=3)
            seen += len(rows)
            if seen >= CLOSE_AMONG:
                break
        return close

    def _rows(self, key: str, choose: Callable[[pa.Table], Sequence[int]]) -> list[Row]:
        if not self._wanted():
            raise Stopped(Problem("LM1610", "stopped on request", help="run the same command again"))
        with self._bucket.open(key) as file:
            return metadata.select_rows(file, choose)

    def _ids(self, key: str) -> list[str]:
        ids: list[str] = []

        def none(columns: pa.Table) -> Sequence[int]:
            ids.extend(columns["id"].unique().to_pylist())
            return ()

        self._rows(key, none)
        return ids

    def _files_by_number(self, names: Iterable[str]) -> Iterator[str] | None:
        """The metadata in which these rows are if they are anywhere; None where that does not follow from names."""
        spec, lanes = self._manifest.spec, range(len(self._plan.lane_rows))
        if self._manifest.table.routes is not None:
            return None
        numbered = use_columns(self._manifest.table.schema.names, spec.columns, spec.overrides).id is None
        places: set[tuple[int, int]] = set()
        for name in names:
            if key := KEY.fullmatch(name):
                places.add((int(key[3]), int(key[1])))
            elif not numbered:
                return None
            elif name.isascii() and name.isdigit():
                places |= {(lane, int(name)) for lane in lanes}
        there = (place for place in sorted(places) if place[0] in lanes and place[1] < self._manifest.rows)
        shards = dict.fromkeys(self._plan.shard_of(lane, row) for lane, row in there)
        return (key for key in map(metadata.key, shards) if self._bucket.head(key))

    def _place(self, image: int) -> tuple[int, int]:
        """The shard of a promised image, counted through all lanes, and its number among the rows of that shard."""
        row, index = divmod(image, self._plan.images_per_prompt)
        ends = list(accumulate(self._plan.lane_rows))
        lane = next(lane for lane, end in enumerate(ends) if row < end)
        within_lane = row - (ends[lane] - self._plan.lane_rows[lane])
        shard = self._plan.shard_of(lane, within_lane)
        return shard.index, (within_lane - shard.start) * self._plan.images_per_prompt + index


def unknown(output: str, name: str, close: Sequence[str]) -> InputError:
    """No committed row has this id or key."""
    guess = f"; did you mean {' or '.join(close)}?" if close else ""
    help_ = f"`lightmill status {output}` says whether all is committed; ids are in the column `id` of the metadata"
    return InputError(Problem("LM1821", f'no image has the id or key "{name}"{guess}', where=output, help=help_))


def _places(chosen: pa.ChunkedArray) -> list[int]:
    return [int(place) for place in pc.indices_nonzero(chosen).to_pylist()]


def _order(row: Row) -> tuple[int, int, int]:
    return row["source_row"], row["image_index"], row["lane"]
