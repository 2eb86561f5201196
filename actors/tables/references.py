"""References: what a table may say of where an input image lies, and what it means.

A table may be anybody's, and a worker can reach more than its author: so a reference never leaves the table's own
folder, in a file system or a store, unless the job names where it may lead.
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from actors.errors import InputError, Problem
from actors.urls import Url

MAX_BYTES = 1 << 10
FORMATS = re.compile(r"\.(parquet|csv|tsv|jsonl|ndjson)(\.(gz|zst))?$")
HELP = "name a file under the table's folder, or let the job allow it: `inputs: {allow: [PREFIX]}`"
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:(?=//)|data:")


class References:
    """What one table may name: files under its own folder, or the one that its job names instead, and under the
    prefixes that the job allows."""

    def __init__(self, table_uri: str, allow: Iterable[str] = (), folder: str | None = None) -> None:
        self._folder = folder.rstrip("/") if folder else folder_of(table_uri)
        own = [Url.in_store(self._folder)] if self._folder.startswith("s3://") else []
        self._prefixes = (*own, *map(Url.parse, allow))

    def why_refused(self, text: str) -> str | None:
        """Why such a reference is never followed, seen from its text alone; None where it may be."""
        if len(text.encode("utf-8", "replace")) > MAX_BYTES:
            return f"it has more than {MAX_BYTES:,} bytes"
        if "\0" in text:
            return "it has a NUL in it"
        if not _SCHEME.match(text):
            return _why_not_relative(text)
        try:
            url = Url.parse(text)
        except ValueError as error:
            return str(error)
        if url.scheme == "s3" and not url.path:
            return "it names no object"
        return None if self.allows(url) else "the job does not allow that place"

    def allows(self, url: Url) -> bool:
        """Whether the job lets its table lead there."""
        return any(url.is_under(prefix) for prefix in self._prefixes)

    def place_of(self, reference: str) -> Url | Path:
        """What is meant: an object, a file of the web, or one of this machine by its absolute path.

        Raises `InputError` (LM1031) where it may not be read: also where links in the file system lead out of the
        folder.
        """
        why = self.why_refused(reference)
        if not why and _SCHEME.match(reference):
            return Url.parse(reference)
        if not why and self._folder.startswith("s3://"):
            return Url.in_store(f"{self._folder}/{reference}")
        if not why:
            # Unlike Path.resolve, which raises where links lead round in a ring: to open that says what it is.
            top = Path(os.path.realpath(self._folder or "/"))
            path = Path(os.path.realpath(top / reference))
            if path.is_relative_to(top):
                return path
            why = "a link leads out of the table's folder"
        raise InputError(Problem("LM1031", f"{reference} is not read: {why}", value=reference, help=HELP))


def folder_of(uri: str) -> str:
    """The folder of a table, to which its references are relative: that of its file, or what stands before the first
    wildcard of a glob; a folder is its own."""
    uri = uri.rstrip("/")
    wildcard = re.search(r"[*?\[]", uri)
    if wildcard:
        return uri[: wildcard.start()].rpartition("/")[0]
    is_file = FORMATS.search(uri) if uri.startswith("s3://") else not os.path.isdir(uri)  # noqa: PTH112
    return uri.rpartition("/")[0] if is_file else uri


def _why_not_relative(path: str) -> str | None:
    if ".." in PurePosixPath(path).parts:
        return "it leads out of its folder with .."
    return "it is not relative to the table's folder" if path.startswith(("/", "~")) else None
