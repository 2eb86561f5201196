"""The files that a table is made of: found by stat and list alone, opened where they are."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Literal

import pyarrow as pa

from actors.errors import InputError, Problem
from actors.settings import StorageSettings
from actors.storage.bucket import Bucket
from actors.storage.opening import FIRST_MEETING_SECONDS, open_bucket
from actors.tables.table import OURS

Format = Literal["parquet", "csv", "tsv", "jsonl"]
Compression = Literal["gzip", "zstd"]

FORMATS: dict[str, Format] = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
COMPRESSIONS: dict[str, Compression] = {".gz": "gzip", ".zst": "zstd"}
KNOWN = ".parquet .csv .tsv .jsonl, the last three also .gz and .zst"
WILDCARD = re.compile(r"[*?\[]")
_OPENING = Lock()


@dataclass(frozen=True, slots=True)
class FoundFile:
    """One file of a table, before anybody has looked inside."""

    url: str
    """Absolute path or `s3://` URL."""
    version: str
    """The store's etag, or size and modification time."""
    size: int
    format: Format
    compression: Compression | None


def find_files(uri: str, storage: StorageSettings) -> tuple[FoundFile, ...]:
    """The files behind a file, folder or glob, sorted by name. Reads none of them."""
    try:
        found = tuple(_find_in_store(uri, storage) if uri.startswith("s3://") else _find_here(uri))
    except OSError as error:
        raise InputError(_unreadable(absolute(uri), error)) from error
    if not found:
        raise InputError(
            Problem(
                "LM1000",
                "there is no prompt table here",
                where=absolute(uri),
                help=f"name a file, folder or glob of {KNOWN}",
            )
        )
    formats = sorted({file.format for file in found})
    if len(formats) > 1:
        raise InputError(
            Problem(
                "LM1019",
                f"the table mixes files of {' and '.join(formats)}",
                where=absolute(uri),
                help=f"name one kind with a glob: {absolute(uri).rstrip('/')}/*.{formats[0]}",
            )
        )
    return found


def absolute(uri: str) -> str:
    """The URI as it means the same from every folder."""
    return uri if uri.startswith("s3://") else str(Path(uri).expanduser().absolute())


def open_file(url: str, storage: StorageSettings) -> pa.NativeFile:
    """The file, seekable; only what is read is fetched."""
    if not url.startswith("s3://"):
        try:
            return pa.OSFile(url)
        except OSError as error:
            raise InputError(_unreadable(url, error)) from error
    folder, name = url.rsplit("/", 1)
    return pa.PythonFile(bucket_at(folder, storage).open(name), mode="r")


def file_version(url: str, storage: StorageSettings) -> str | None:
    """What `FoundFile.version` would be now; None when the file is gone."""
    if not url.startswith("s3://"):
        return _stat_version(Path(url)) if Path(url).is_file() else None
    folder, name = url.rsplit("/", 1)
    info = bucket_at(folder, storage).head(name)
    return info.etag if info else None


def require_unchanged(url: str, version: str, storage: StorageSettings) -> None:
    """Refuse a file that is no longer the one that was planned: its rows would be other rows."""
    if version == OURS:
        return
    now = file_version(url, storage)
    if now != version:
        message = "the file is gone" if now is None else "the file has changed since it was first read"
        raise InputError(Problem("LM1022", message, url, help="put the old file back, or start a new output"))


def bucket_at(url: str, storage: StorageSettings) -> Bucket:
    """One Bucket (and so one connection pool) per folder of a table, however many files and threads there are: 16
    threads that each open their own wait 4 s, and hold 250 MiB."""
    with _OPENING:
        return _opened(url, storage)


@cache
def _opened(url: str, storage: StorageSettings) -> Bucket:
    return open_bucket(url, storage)


def _unreadable(path: str, error: OSError) -> Problem:
    return Problem("LM1000", f"the file cannot be read: {error.strerror or error}", path, help=f"ls -l {path}")


def _stat_version(path: Path) -> str:
    status = path.stat()
    return f"{status.st_size}-{status.st_mtime_ns}"


def _kind(name: str) -> tuple[Format, Compression | None] | None:
    suffixes = [suffix.lower() for suffix in PurePosixPath(name).suffixes]
    if not suffixes:
        return None
    compression = COMPRESSIONS.get(suffixes[-1])
    kind = FORMATS.get(suffixes[-2] if compression and len(suffixes) > 1 else suffixes[-1])
    if kind is None or (compression and kind == "parquet"):
        return None
    return kind, compression


def _hidden(path: str) -> bool:
    """Spark leaves `_SUCCESS`, macOS `.DS_Store`: whatever begins so is no part of a table."""
    return any(part.startswith(("_", ".")) for part in path.split("/"))


def _find_here(uri: str) -> Iterator[FoundFile]:
    path = Path(absolute(uri))
    if path.is_dir():
        names = sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())
        files = [path / name for name in names if not _hidden(name) and _kind(name)]
    elif path.exists():
        files = [path]
    else:
        root = Path(WILDCARD.split(str(path))[0].rpartition("/")[0] or "/")
        pattern = str(path.relative_to(root))
        found = root.rglob("*") if "**" in pattern else root.glob(pattern)
        names = sorted(str(file.relative_to(root)) for file in found if file.is_file())
        files = [root / name for name in names if _translate(pattern).match(name) and not _hidden(name)]
    for file in files:
        kind, compression = _known_kind(str(file))
        yield FoundFile(str(file), _stat_version(file), file.stat().st_size, kind, compression)


def _known_kind(url: str) -> tuple[Format, Compression | None]:
    kind = _kind(url)
    if kind is None:
        raise InputError(
            Problem("LM1018", "the name does not say what kind of table this is", where=url, help=f"known are {KNOWN}")
        )
    return kind


def _find_in_store(uri: str, storage: StorageSettings) -> Iterator[FoundFile]:
    if WILDCARD.search(uri):
        folder = uri[: WILDCARD.search(uri).start()].rsplit("/", 1)[0]  # type: ignore[union-attr]
        wanted = _translate(uri[len(folder) + 1 :])
    elif _kind(uri) and not uri.endswith("/"):
        file = _one_in_store(uri, storage)
        if file:
            yield file
            return
        folder, wanted = uri, re.compile("")
    else:
        folder, wanted = uri.rstrip("/"), re.compile("")
    for info in open_bucket(folder, storage, patience_seconds=FIRST_MEETING_SECONDS).list():
        kind = _kind(info.key)
        if kind and wanted.match(info.key) and not _hidden(info.key):
            yield FoundFile(f"{folder}/{info.key}", info.etag, info.size, *kind)


def _one_in_store(url: str, storage: StorageSettings) -> FoundFile | None:
    folder, name = url.rsplit("/", 1)
    info = open_bucket(folder, storage, patience_seconds=FIRST_MEETING_SECONDS).head(name)
    return FoundFile(url, info.etag, info.size, *_known_kind(url)) if info else None


def _translate(pattern: str) -> re.Pattern[str]:
    """A glob as a regular expression: `*` stays within a folder, `**/` crosses them (`glob.translate` is of 3.13)."""
    parts = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    tokens = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])", pattern)
    return re.compile("".join(parts.get(t) or _class(t) or re.escape(t) for t in tokens) + r"\Z")


def _class(token: str) -> str | None:
    """`[a-z]` or `[!a-z]` of a glob as that of a regular expression; None for other tokens."""
    return token.replace("[!", "[^") if token.startswith("[") and token.endswith("]") else None
