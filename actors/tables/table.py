"""PromptTable: which files hold the prompts, and how many rows each row group has. Footers only, never rows."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TableFile:
    """One Parquet file of the table."""

    url: str
    """Absolute path or `s3://` URL."""
    version: str
    """The store's etag, or size and modification time: says whether the file is still the one that was planned."""
    row_groups: tuple[int, ...]
    """Rows of each row group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptTable:
    """A table of prompts as workers read it: Parquet, with row groups small enough to decode whole."""

    uri: str
    """What the user named, made absolute."""
    files: tuple[TableFile, ...]
    columns: tuple[tuple[str, str], ...]
    """Name and Arrow type of every column."""
    routes: tuple[tuple[int, ...], ...] | None = None
    """With a `model` override: for every row group of every file, in order, the rows of each lane."""
