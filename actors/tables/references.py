"""References: what a table may say of where an input image lies, and what it means.

A table may be anybody's, and a worker can reach more than its author: so a path never leaves the table's own folder,
and nothing is fetched from a web address.
"""

import os
import re
from pathlib import Path, PurePosixPath

from actors.errors import InputError, Problem

MAX_BYTES = 1 << 10
FORMATS = re.compile(r"\.(parquet|csv|tsv|jsonl|ndjson)(\.(gz|zst))?$")
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:(?=//)|data:")


def why_refused(text: str) -> str | None:
    """Why such a reference is never followed, seen from its text alone; None where it may be."""
    in_store = text.startswith("s3://")
    path = text.removeprefix("s3://")
    scheme = None if in_store else _SCHEME.match(text)
    reasons = {
        f"it has more than {MAX_BYTES:,} bytes": len(text.encode("utf-8", "replace")) > MAX_BYTES,
        f"nothing is fetched from {scheme[0] if scheme else ''}": scheme is not None,
        "it has a NUL in it": "\0" in text,
        "it leads out of its folder with ..": ".." in PurePosixPath(path).parts,
        "it is not relative to the table's folder": not in_store and path.startswith(("/", "~")),
        "it names no object": in_store and not all(path.partition("/")[::2]),
    }
    return next((why for why, holds in reasons.items() if holds), None)


def folder_of(uri: str) -> str:
    """The folder of a table, to which its references are relative: that of its file, or what stands before the first
    wildcard of a glob; a folder is its own."""
    uri = uri.rstrip("/")
    wildcard = re.search(r"[*?\[]", uri)
    if wildcard:
        return uri[: wildcard.start()].rpartition("/")[0]
    is_file = FORMATS.search(uri) if uri.startswith("s3://") else not os.path.isdir(uri)  # noqa: PTH112
    return uri.rpartition("/")[0] if is_file else uri


def place_of(reference: str, folder: str) -> str:
    """The `s3://` URL or absolute path that is meant.

    Raises `InputError` (LM1031) where it may not be read: also where links in the file system lead out of the folder.
    """
    why = why_refused(reference)
    if not why and reference.startswith("s3://"):
        return reference
    if not why and folder.startswith("s3://"):
        return f"{folder}/{reference}"
    if not why:
        top = Path(folder).resolve()
        path = (top / reference).resolve()
        if path.is_relative_to(top):
            return str(path)
        why = "a link leads out of the table's folder"
    action = "name a file under the table's folder, or an s3:// URL"
    raise InputError(Problem("LM1031", f"{reference} is not read: {why}", value=reference, help=action))
