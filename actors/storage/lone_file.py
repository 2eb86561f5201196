"""A file that a user asked for by name: written whole or not at all, with nothing left beside it."""

import uuid
from pathlib import Path

from actors.storage.mishaps import explained


def write_file(path: Path, data: bytes) -> None:
    """Put the file there, in the place of one of that name; folders are made. Raises `StorageError`."""
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")  # within one file system a file can be moved at once
    with explained(path, "write"):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(data)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
