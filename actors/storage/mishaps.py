"""What an operating system's refusal means, and what to do about it: from OSError to our errors."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from actors.errors import Problem, StorageError

FULL = (errno.ENOSPC, errno.EDQUOT)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def explained(path: Path, action: str) -> Iterator[None]:
    """Raise `StorageError` where the block raises OSError, saying that `action` on `path` failed."""
    try:
        yield
    except OSError as error:
        raise StorageError(_problem(error, path, action)) from error


def _problem(error: OSError, path: Path, action: str) -> Problem:
    if error.errno in FULL:
        folder = next(parent for parent in (path, *path.parents) if parent.is_dir())
        return Problem(
            "LM1401",
            f"no room to {action} {path}: {error.strerror}",
            value=f"{shutil.disk_usage(folder).free} bytes free in {folder}",
            help="make room and run the same command again; what was committed stays",
        )
    if error.errno in FORBIDDEN:
        return Problem(
            "LM1302",
            f"not allowed to {action} {path}: {error.strerror}",
            help="give this user the permission, or choose another folder",
        )
    return Problem("LM1309", f"could not {action} {path}: {error.strerror or error}")
