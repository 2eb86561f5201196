"""Mirror: a model under a prefix of a store or in a folder, with the hash of each of its files.

What its card takes from elsewhere, such as another VAE, has a mirror of its own below it.
"""

import hashlib
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, ValidationError

from actors.errors import InputError, NotFound, Problem
from actors.models.cache import cache_folder, one_at_a_time, refuse_changed, remember
from actors.models.hub import COMMIT, is_text
from actors.models.settings import WeightsSettings
from actors.storage.bucket import Bucket
from actors.storage.opening import open_bucket

LIST = "sha256.json"
"""Written last: a mirror without it is not filled yet."""
MAIN = "main"
"""The revision that is meant where none is named."""
_PIECE = 8 * 1024**2
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _File(BaseModel):
    size: Annotated[int, Field(ge=0)]
    sha256: _Sha256


class Contents(BaseModel):
    """What `sha256.json` holds."""

    schema_version: Literal[1]
    model: str
    """Hub id, or path, of what it was filled from."""
    revision: str | None = None
    """Commit of the hub."""
    asked: str = MAIN
    """What that was asked for by: a branch, a tag, or itself."""
    files: dict[str, _File]
    parts: dict[str, _Sha256] = Field(default_factory=dict)
    """The hashes of the lists of what is below it, by the field of the card that names each."""


def part_url(url: str, field: str) -> str:
    """The mirror of a part, within that of its model."""
    return f"{url.rstrip('/')}/parts/{field}"


def fill(
    path: Path,
    url: str,
    source: WeightsSettings,
    *,
    asked: str | None = None,
    texts: bool = False,
    parts: Mapping[str, str] | None = None,
) -> int:
    """Copy the folder or file in which `source` arrived, or its `texts` alone, to the mirror; how many files that were.

    `asked` is its revision before that was pinned. The mirrors of its parts are filled already; `parts` has the hashes
    of their lists.
    """
    bucket = open_bucket(url)
    if path.is_dir():
        found = (file for file in sorted(path.rglob("*")) if file.is_file())
        names = {file.relative_to(path).as_posix(): file for file in found if not texts or is_text(file.name)}
    else:
        names = {source.file or path.name: path}
    files = {name: _upload(file, bucket, name) for name, file in names.items()}
    listed = Contents(
        schema_version=1,
        model=source.model,
        revision=source.revision,
        asked=asked or source.revision or MAIN,
        files=files,
        parts=dict(parts or {}),
    )
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


def read(source: WeightsSettings) -> tuple[str, Contents]:
    """The hash of the list of the mirror of these weights, which stands for all its files, and what it says.

    Raises `InputError`: LM1201 there is no mirror, LM1220 it was filled from another model or revision, or the list has
    not the hash that it should have.
    """
    assert source.mirror is not None
    bucket = open_bucket(source.mirror)
    try:
        text = bucket.get(LIST)
        contents = Contents.model_validate_json(text)
    except (NotFound, ValidationError) as error:
        whole = bucket.url.partition("/parts/")[0]
        action = f"fill it: `lightmill models mirror NAME {whole}`"
        raise InputError(Problem("LM1201", f"{bucket.url} is not the mirror of a model", help=action)) from error
    _refuse_another(source, contents)
    found = hashlib.sha256(text).hexdigest()
    if source.mirror_sha256 not in (None, found):
        message = f"the mirror {source.mirror} was filled anew since the job began, or since it was named by its hash"
        action = "fill it with the same files as then, or run the job to another output"
        raise InputError(Problem("LM1220", message, value=f"sha256 of {LIST} {found}", help=action))
    return found, contents


def _refuse_another(source: WeightsSettings, contents: Contents) -> None:
    """What is known of a model, its licence first, is true of its own weights alone."""
    revision = source.revision
    is_name = revision is not None and not COMMIT.fullmatch(revision)
    there = contents.asked if is_name else contents.revision
    if contents.model == source.model and revision in (None, there):
        return
    wanted, held = (
        f"{name}@{which}" if which else name for name, which in ((source.model, revision), (contents.model, there))
    )
    message = f"the mirror {source.mirror} is not of {wanted}: it was filled from {held}"
    action = f"name the mirror that was filled from it, or fill one: `lightmill models mirror {source.model} URL`"
    raise InputError(Problem("LM1220", message, help=action))


def fetch(source: WeightsSettings, *, texts: bool = False) -> Path:
    """The folder of the mirror of these weights on this machine, copied once for all workers; of some the `texts`
    alone are wanted.

    Raises `InputError` as `read` does, and LM1201 a file is missing, LM1220 it is not the one that was put there.
    """
    assert source.mirror is not None
    found, contents = read(source)
    # Texts have a folder of their own: who plans does not wait until the weights are here.
    folder = cache_folder("mirrored") / (f"{found[:32]}-texts" if texts else found[:32])
    bucket = open_bucket(source.mirror)
    with one_at_a_time(str(folder)):
        for name, known in contents.files.items():
            if not texts or is_text(name):
                _bring(bucket, name, known.sha256, folder)
    return folder


def _bring(bucket: Bucket, name: str, sha256: str, folder: Path) -> None:
    """Have the file in its place, whole, and the one that was put into the mirror."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        message = f"the mirror {bucket.url} names a file outside itself"
        help_ = "find out who has changed it, and make it anew with `lightmill models mirror`"
        raise InputError(Problem("LM1220", message, value=name, help=help_))
    if path.exists():
        refuse_changed(path, sha256, f"{name} is not what the mirror {bucket.url} has")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}")
    try:
        _download(bucket, name, sha256, draft)
        draft.replace(path)
        remember(path, sha256)
    finally:
        draft.unlink(missing_ok=True)


def _download(bucket: Bucket, name: str, sha256: str, path: Path) -> None:
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
