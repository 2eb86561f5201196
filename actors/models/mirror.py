"""Mirror: a model under a prefix of a store or in a folder, with the hash of each of its files."""

import hashlib
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, ValidationError

from actors.errors import InputError, NotFound, Problem
from actors.models.hub import cache_folder, one_at_a_time
from actors.settings import WeightsSettings
from actors.storage.bucket import Bucket
from actors.storage.opening import open_bucket

LIST = "sha256.json"
"""Written last: a mirror without it is not filled yet."""
_PIECE = 8 * 1024**2


class _File(BaseModel):
    size: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _List(BaseModel):
    """What `sha256.json` holds."""

    schema_version: Literal[1]
    model: str | None = None
    """Hub id, or path."""
    revision: str | None = None
    """Commit of the hub."""
    files: dict[str, _File]


def fill(path: Path, url: str, source: WeightsSettings) -> int:
    """Copy the folder or file in which `source` arrived to the mirror; how many files that were."""
    bucket = open_bucket(url)
    if path.is_dir():
        names = {file.relative_to(path).as_posix(): file for file in sorted(path.rglob("*")) if file.is_file()}
    else:
        names = {source.file or path.name: path}
    files = {name: _upload(file, bucket, name) for name, file in names.items()}
    listed = _List(schema_version=1, model=source.model, revision=source.revision, files=files)
    bucket.put(LIST, listed.model_dump_json(indent=1).encode())
    return len(files)


def _upload(file: Path, bucket: Bucket, key: str) -> _File:
    digest = hashlib.sha256()
    with file.open("rb") as opened, bucket.upload(key) as upload:
        while piece := opened.read(_PIECE):
            digest.update(piece)
            upload.write(piece)
        upload.complete()
    return _File(size=file.stat().st_size, sha256=digest.hexdigest())


def list_sha256(url: str) -> str:
    """The hash of the mirror's list, which stands for all its files. Raises `InputError` (LM1201) without one."""
    return hashlib.sha256(_read(open_bucket(url))[0]).hexdigest()


def _read(bucket: Bucket) -> tuple[bytes, _List]:
    try:
        text = bucket.get(LIST)
        return text, _List.model_validate_json(text)
    except (NotFound, ValidationError) as error:
        action = f"fill it: `lightmill models mirror NAME {bucket.url}`"
        raise InputError(Problem("LM1201", f"{bucket.url} is not the mirror of a model", help=action)) from error


def fetch(url: str, sha256: str | None = None) -> Path:
    """The mirror's folder on this machine, copied once for all workers.

    Raises `InputError`: LM1201 there is no mirror, LM1220 a file is not the one that was put there, or the list has not
    this `sha256`.
    """
    bucket = open_bucket(url)
    text, listed = _read(bucket)
    found = hashlib.sha256(text).hexdigest()
    if sha256 and found != sha256:
        message = f"the mirror {url} was filled anew since the job began"
        action = "fill it with the same files as then, or run the job to another output"
        raise InputError(Problem("LM1220", message, value=f"sha256 of {LIST} {found}", help=action))
    cache = cache_folder("mirrored")
    folder = cache / found[:32]
    with one_at_a_time(str(folder)):
        if not folder.is_dir():
            draft = cache / f"{folder.name}.{uuid.uuid4().hex}"
            try:
                for name, known in listed.files.items():
                    _download(bucket, name, known.sha256, draft)
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
