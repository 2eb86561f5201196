"""Cache: what lightmill keeps on this machine for all its workers, and how they do not tread on each other's feet."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from actors.errors import InputError, Problem


def cache_folder(name: str) -> Path:
    """A folder of lightmill's in the user's cache. Raises `InputError` (LM1224) where it cannot be made."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lightmill" / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(unwritable(error)) from error
    return folder


def unwritable(error: OSError) -> Problem:
    """What to say of a cache that cannot be written."""
    message = f"models need a cache on this machine, and it cannot be written: {error.strerror}"
    help_ = "set XDG_CACHE_HOME and HF_HOME to folders that can be written"
    return Problem("LM1224", message, where=str(error.filename), help=help_)


@contextmanager
def one_at_a_time(name: str) -> Iterator[None]:
    """Held by one process of this machine. The others wait, and then find the work done."""
    try:
        from filelock import FileLock
    except ImportError as error:
        message = "models cannot be fetched here, as filelock is not installed"
        raise InputError(Problem("LM1224", message, help="`pip install 'lightmill[worker]'`")) from error
    with FileLock(cache_folder("locks") / f"{_short(name)}.lock"):
        yield


def refuse_changed(file: Path, sha256: str, told: str) -> None:
    """Raise `InputError` (LM1220) for a file that is not what `told` has, and remove it. Each is hashed once per
    machine, as long as it has the same size and time."""
    if _is_known(file, sha256):
        return
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if found == sha256:
        remember(file, sha256)
        return
    file.unlink()
    message = f"{told}: it was removed"
    help_ = "run the same command again, which downloads it anew"
    raise InputError(Problem("LM1220", message, where=str(file), value=f"sha256 {found}", help=help_))


def remember(file: Path, sha256: str) -> None:
    """That these very bytes were hashed."""
    _mark(file, sha256).write_text(_state(file))


def _is_known(file: Path, sha256: str) -> bool:
    mark = _mark(file, sha256)
    return mark.is_file() and mark.read_text() == _state(file)


def _mark(file: Path, sha256: str) -> Path:
    return cache_folder("locks") / f"{_short(f'{sha256} {file}')}.verified"


def _state(file: Path) -> str:
    state = file.stat()
    return f"{state.st_size} {state.st_mtime_ns}"


def _short(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:16]
