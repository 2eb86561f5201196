"""Baggage: what of a job lies on this machine alone, brought to where the cluster can read it, or refused."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from actors.errors import InputError, Problem, UsageError
from actors.models.registry import SUFFIXES, load_card
from actors.models.settings import ModelSettings
from actors.storage.bucket import Bucket
from actors.storage.opening import FIRST_MEETING_SECONDS, open_bucket
from actors.tables.files import WILDCARD, find_files
from jobs.spec import JobSpec

Say = Callable[[str], None]
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
IMAGES = ("image", "mask_image", "depth_map")
"""Overrides that name files."""
PIECE_BYTES = 1 << 20


def refuse_what_stays(spec: JobSpec) -> None:
    """Raise `InputError` with all of the job that no cluster could read, and that cannot be brought there."""
    problems = list(_stays(spec))
    if problems:
        raise InputError(*problems)


def at_the_store(spec: JobSpec) -> JobSpec:
    """With the endpoint and region that this machine's environment has, where the job names none: the cluster's
    environment is another."""
    named = {"endpoint_url": spec.storage.endpoint_url or _of(ENDPOINTS), "region": spec.storage.region or _of(REGIONS)}
    endpoint = named["endpoint_url"]
    if endpoint and urlsplit(endpoint).password:
        message = "the endpoint of the store has a password, which would be kept with the job"
        raise UsageError(Problem("LM1507", message, help="leave it out: credentials are found where the workers run"))
    return spec.model_copy(update={"storage": spec.storage.model_copy(update=named)})


def bring(spec: JobSpec, parcel: Path, say: Say) -> JobSpec:
    """Upload the table, and what else the driver reads, to `prompts/` of the output; model cards go into the parcel.

    Names are made of what is in the files, so that the same files are uploaded once, and never change under a run.
    """
    bucket = open_bucket(spec.output, spec.storage, patience_seconds=FIRST_MEETING_SECONDS)
    changes: dict[str, Any] = {}
    if is_here(spec.prompts):
        files = [Path(file.url) for file in find_files(spec.prompts, spec.storage)]
        changes["prompts"] = _upload(bucket, files, spec.prompts, say)
    block_list = spec.prompt_filter.block_list
    if block_list and is_here(block_list):
        found = _upload(bucket, [Path(block_list)], block_list, say)
        changes["prompt_filter"] = spec.prompt_filter.model_copy(update={"block_list": found})
    for kind in ("models", "stages"):
        if entries := getattr(spec, kind):
            changes[kind] = tuple(_with_card(entry, parcel) for entry in entries)
    return spec.model_copy(update=changes)


def _stays(spec: JobSpec) -> Iterator[Problem]:
    if is_here(spec.output):
        yield Problem(
            "LM1506",
            "the output is a folder of this machine, which a cluster does not see",
            where="output",
            value=spec.output,
            help="an s3:// prefix; `lightmill run --address` is for folders that all machines share",
        )
    elif is_here(spec.prompts) and not spec.inputs.allow and (named := set(IMAGES) & set(spec.overrides)):
        yield Problem(
            "LM1506",
            f"the table's column {' and '.join(sorted(named))} names files beside it, which stay on this machine",
            where="prompts",
            value=spec.prompts,
            help="put the table and its images on the store, and name it there",
        )


def is_here(url: str) -> bool:
    """Whether it is a path, of which other machines know nothing."""
    return "://" not in url


def _of(variables: Iterable[str]) -> str | None:
    return next((os.environ[name] for name in variables if os.environ.get(name)), None)


def _upload(bucket: Bucket, files: list[Path], named: str, say: Say) -> str:
    """The URL under which all these files are found, of a table that was named so here."""
    root = _root(named)
    places = {file: file.relative_to(root).as_posix() for file in files}
    whole = hashlib.sha256()
    for file, place in places.items():
        whole.update(f"{place}\0{_sha256(file)}\n".encode())
    folder = f"prompts/{whole.hexdigest()[:12]}"
    for file, place in places.items():
        key = f"{folder}/{place}"
        info = bucket.head(key)
        if info is None or info.size != file.stat().st_size:
            say(f"uploading {file} to {bucket.url}/{key}")
            with bucket.upload(key) as upload:
                for piece in _pieces(file):
                    upload.write(piece)
                upload.complete()
    is_one = len(files) == 1 and Path(named).is_file()
    return f"{bucket.url}/{folder}" + (f"/{places[files[0]]}" if is_one else "")


def _root(named: str) -> Path:
    """The folder that a file, folder or glob is below, whichever files it names."""
    path = Path(named)
    if path.is_dir():
        return path
    return path.parent if path.is_file() else Path(WILDCARD.split(named)[0].rpartition("/")[0] or "/")


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    for piece in _pieces(file):
        digest.update(piece)
    return digest.hexdigest()


def _pieces(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        while piece := opened.read(PIECE_BYTES):
            yield piece


def _with_card(entry: ModelSettings, parcel: Path) -> ModelSettings:
    """A card of the user's own is read by the driver alone: workers are told what it says."""
    if not (is_here(entry.model) and entry.model.endswith(SUFFIXES)):
        return entry
    path = Path(entry.model).expanduser()
    place = f"cards/{path.name}"
    text = yaml.safe_dump(load_card(path).model_dump(mode="json", exclude_defaults=True), allow_unicode=True)
    (parcel / "cards").mkdir(exist_ok=True)
    if (parcel / place).exists() and (parcel / place).read_text() != text:
        raise InputError(Problem("LM1506", "two cards of one name", value=path.name, help="rename one of the files"))
    (parcel / place).write_text(text)
    return entry.model_copy(update={"model": place})
