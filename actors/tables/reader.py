"""TableReader: the prompts of a shard, read by a worker from wherever the table is."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from actors.errors import InputError
from actors.records import Prompt
from actors.settings import Override, StorageSettings
from actors.tables.carried import cast, rows
from actors.tables.columns import use_columns
from actors.tables.files import require_unchanged
from actors.tables.parquet import UNREADABLE, ParquetFile
from actors.tables.prompt_filter import PromptFilter
from actors.tables.references import References
from actors.tables.routes import lane_numbers
from actors.tables.row import RowParser
from actors.tables.table import PromptTable

CACHE_BYTES = 128 << 20
"""Decoded row groups a reader keeps. Text in them is dictionaries, so most take less than their file does."""
OPEN_FILES = 4
TRIES = 3
"""At reading a row group. S3 gives no checksum with a part of an object, so a flipped bit shows only here."""


class TableReader:
    """Rows of a lane by their ordinals. Used by one thread; neighbouring shards find their row group decoded."""

    def __init__(
        self,
        table: PromptTable,
        columns: Mapping[str, str],
        overrides: Iterable[Override],
        storage: StorageSettings,
        prompt_filter: PromptFilter | None = None,
        references: References | None = None,
    ) -> None:
        self.table = table
        use = use_columns(table.schema.names, columns, overrides)
        self._parser = RowParser(use, references or References(table.identity.uri), table.lanes, prompt_filter)
        self._route_column = use.overrides.get("model") if table.routes else None
        self.groups = GroupCache(table, storage)
        self._starts = np.concatenate([[0], table.group_ends()])
        self._lane_ends: dict[int, NDArray[np.int64]] = {}

    def read(self, lane: int, start: int, stop: int) -> list[Prompt]:
        """Rows `[start, stop)` of the lane, in order. Bad rows are among them, each with its problem."""
        return list(self.iterate(lane, start, stop))

    def iterate(self, lane: int, start: int, stop: int) -> Iterator[Prompt]:
        """As `read`, a row at a time."""
        ends = self._ends(lane)
        first = int(np.searchsorted(ends, start, side="right"))
        for number in range(first, len(ends)):
            before = int(ends[number - 1]) if number else 0
            if before >= stop:
                return
            yield from self._slice(number, lane, max(start - before, 0), min(stop, int(ends[number])) - before)

    def _ends(self, lane: int) -> NDArray[np.int64]:
        key = lane if self._route_column else 0
        if key not in self._lane_ends:
            self._lane_ends[key] = self.table.group_ends(lane)
        return self._lane_ends[key]

    def _slice(self, number: int, lane: int, start: int, stop: int) -> Iterator[Prompt]:
        if start >= stop:
            return
        group = self.groups.get(number)
        first_row = int(self._starts[number])
        if self._route_column is None:
            wanted, numbers = group.slice(start, stop - start), range(start, stop)
        else:
            schema = pa.schema([self.table.schema.field(self._route_column)])
            lanes = lane_numbers(cast(group, schema).column(0), self.table.lanes)
            chosen = np.flatnonzero(lanes == lane)[start:stop]
            wanted, numbers = group.take(pa.array(chosen)), chosen.tolist()
        for within, row in zip(numbers, rows(wanted, self.table.schema), strict=True):
            yield self._parser.prompt(first_row + within, row)


class GroupCache:
    """Decoded row groups, the latest used first to stay, of at most `CACHE_BYTES` together (but always one)."""

    def __init__(self, table: PromptTable, storage: StorageSettings) -> None:
        self.table = table
        self.storage = storage
        self.decoded = 0
        """How many row groups have been decoded: what a cache is to keep low."""
        self._places = table.group_places()
        self._groups: OrderedDict[int, pa.Table] = OrderedDict()
        self._files: OrderedDict[int, ParquetFile] = OrderedDict()

    def get(self, number: int) -> pa.Table:
        """The row group of this number, counted through all files."""
        if number not in self._groups:
            self._groups[number] = self._decode(number)
            self.decoded += 1
            while len(self._groups) > 1 and self._bytes() > CACHE_BYTES:
                self._groups.popitem(last=False)
        self._groups.move_to_end(number)
        return self._groups[number]

    def _decode(self, number: int) -> pa.Table:
        """Ask anew for what came damaged, before it is called damaged where it lies."""
        file, index = (int(place) for place in self._places[number])
        for _ in range(TRIES - 1):
            try:
                return self._file(file).group(index)
            except InputError as error:
                if error.code != UNREADABLE:
                    raise
                self._files.pop(file, None)  # with what it has buffered
        return self._file(file).group(index)

    def _bytes(self) -> int:
        return sum(int(group.get_total_buffer_size()) for group in self._groups.values())

    def _file(self, number: int) -> ParquetFile:
        if number not in self._files:
            file = self.table.files[number]
            require_unchanged(file.url, file.version, self.storage)
            self._files[number] = ParquetFile(file.url, self.storage)
            if len(self._files) > OPEN_FILES:
                self._files.popitem(last=False)
        self._files.move_to_end(number)
        return self._files[number]
