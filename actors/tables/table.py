"""PromptTable: which files hold the prompts, and how many rows each row group has. Footers only, never rows."""

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class TableIdentity:
    """What the user named, and how to notice, without reading it, that it has changed."""

    uri: str
    """Absolute path or `s3://` URL of a file, folder or glob."""
    version: str
    """Digest of every file's URL and etag (or size and modification time)."""
    rows: int


OURS = ""
"""The version of a file that lightmill wrote under a name it uses once: it is there as written, or not at all."""


@dataclass(frozen=True, slots=True)
class TableFile:
    """One Parquet file of the table."""

    url: str
    """Absolute path or `s3://` URL; of a file of `OURS` relative to the output, until the table is `located`."""
    version: str
    """The store's etag, or size and modification time: says whether the file is still the one that was planned."""
    row_groups: tuple[int, ...]
    """Rows of each row group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptTable:
    """A table of prompts as workers read it: Parquet, with row groups small enough to decode whole."""

    identity: TableIdentity
    """Of what the user named: where the table had to be rewritten, `files` are ours and this is not."""
    files: tuple[TableFile, ...]
    schema: pa.Schema = field(hash=False)
    """Every column, in the type in which it is carried (see `actors.tables.carried`)."""
    lanes: tuple[str, ...] = ()
    """The model of each lane, where the table routes rows to them."""
    routes: tuple[tuple[int, ...], ...] | None = None
    """With a `model` override: for every row group of every file, in order, the rows of each lane."""

    def located(self, output: str) -> Self:
        """The table with the files that lightmill wrote found under this output."""
        base = output.rstrip("/")
        files = (replace(file, url=f"{base}/{file.url}") if file.version == OURS else file for file in self.files)
        return replace(self, files=tuple(files))

    @property
    def uri(self) -> str:
        return self.identity.uri

    @property
    def rows(self) -> int:
        return self.identity.rows

    @property
    def columns(self) -> tuple[tuple[str, str], ...]:
        """Name and Arrow type of every column."""
        return tuple((column.name, str(column.type)) for column in self.schema)

    def lane_rows(self, lane: int) -> int:
        """How many rows are this lane's: all of them, unless the table routes."""
        return self.rows if self.routes is None else sum(counts[lane] for counts in self.routes)

    def group_ends(self, lane: int | None = None) -> NDArray[np.int64]:
        """For every row group how many rows (of the lane, where the table routes) there are up to its end."""
        if lane is None or self.routes is None:
            counts = [rows for file in self.files for rows in file.row_groups]
        else:
            counts = [group[lane] for group in self.routes]
        return np.cumsum(np.asarray(counts, dtype=np.int64))

    def group_places(self) -> NDArray[np.int32]:
        """For every row group, in order, the number of its file and its number within that file."""
        file = np.repeat(np.arange(len(self.files)), [len(file.row_groups) for file in self.files])
        within = [np.arange(len(file.row_groups)) for file in self.files]
        return np.stack([file, np.concatenate(within)], axis=1).astype(np.int32)

    def to_dict(self) -> dict[str, Any]:
        """As the manifest keeps it."""
        return {
            "identity": asdict(self.identity),
            "files": [asdict(file) for file in self.files],
            "columns": dict(self.columns),
            "schema": base64.b64encode(self.schema.serialize()).decode(),
            "lanes": list(self.lanes),
            "routes": self.routes,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Back from the manifest."""
        routes = data["routes"]
        return cls(
            identity=TableIdentity(**data["identity"]),
            files=tuple(TableFile(f["url"], f["version"], tuple(f["row_groups"])) for f in data["files"]),
            schema=pa.ipc.read_schema(pa.py_buffer(base64.b64decode(data["schema"]))),
            lanes=tuple(data["lanes"]),
            routes=None if routes is None else tuple(tuple(counts) for counts in routes),
        )
