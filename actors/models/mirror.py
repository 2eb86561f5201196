"""Mirror: a model under a prefix of a store or in a folder, with the hash of each of its files."""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from actors.errors import InputError, NotFound, Problem
from actors.models.hub import one_at_a_time
from actors.storage.bucket import Bucket
from actors.storage.opening import open_bucket

LIST = "sha256.json"
"""Written last: a mirror without it is not filled yet."""
_PIECE = 8 * 1024**2


def fill(path: Path, url: str) -> int:
    """Copy a model's folder or file to the mirror; how many files that were."""
    bucket = open_bucket(url)
    root = path if path.is_dir() else path.parent
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    names = {file.relative_to(root).as_posix(): file for file in files}
    listed = {name: _upload(file, bucket, name) for name, file in names.items()}
    bucket.put(LIST, json.dumps({"schema_version": 1, "files": listed}, indent=1).encode())
    return len(listed)


def _upload(file: Path, bucket: Bucket, key: str) -> dict[str, Any]:
    digest = hashlib.sha256()
    with file.open("rb") as opened, bucket.upload(key) as upload:
        while piece := opened.read(_PIECE):
            digest.update(piece)
            upload.write(piece)
        upload.complete()
    return {"size": file.stat().st_size, "sha256": digest.hexdigest()}


def fetch(url: str) -> Path:
    """The mirror's folder on this machine, copied once for all workers.

    Raises `InputError`: LM1201 there is no mirror, LM1220 a file is not the one that was put there.
    """
    bucket = open_bucket(url)
    try:
        text = bucket.get(LIST)
        files = json.loads(text)["files"]
    except (NotFound, ValueError, KeyError, TypeError) as error:
        action = f"fill it: `lightmill models mirror NAME {url}`"
        raise InputError(Problem("LM1201", f"{url} is not the mirror of a model", help=action)) from error
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lightmill" / "mirrored"
    folder = cache / hashlib.sha256(text).hexdigest()[:32]
    with one_at_a_time(str(folder)):
        if not folder.is_dir():
            draft = cache / f"{folder.name}.{uuid.uuid4().hex}"
            try:
                for name, known in files.items():
                    _download(bucket, name, known["sha256"], draft)
                draft.rename(folder)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
    return folder


def _download(bucket: Bucket, name: str, sha256: str, folder: Path) -> None:
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        message = f"the mirror {bucket.url} names a file outside itself"
        help_ = "find out who has changed it, and make it anew with `lightmill models mirror`"
        raise InputError(Problem("LM1220", message, value=name, help=help_))
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for piece in _pieces(bucket, name):
            digest.update(piece)
            file.write(piece)
    if digest.hexdigest() != sha256:
        message = f"{name} of the mirror {bucket.url} is not the file that was put there"
        action = "fill the mirror again"
        raise InputError(Problem("LM1220", message, value=f"sha256 {digest.hexdigest()}", help=action))


def _pieces(bucket: Bucket, name: str) -> Iterator[bytes]:
    try:
        yield from bucket.stream(name)
    except NotFound as error:
        message = f"the mirror {bucket.url} has no {name}"
        raise InputError(Problem("LM1201", message, help="fill the mirror again")) from error
