"""A hub on 127.0.0.1 that serves folders as huggingface_hub asks for them."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote

import pytest
from huggingface_hub import constants

MODEL = "someone/some-model"
"""The one that every test finds there."""
COMMIT = hashlib.sha1(b"a commit").hexdigest()
WEIGHTS = (".safetensors", ".bin", ".ckpt")


class Hub:
    """Repositories by id, each a folder at one commit. `gated` ones tell nobody anything; `spoilt` files differ from
    the hash by which the hub calls them."""

    def __init__(self) -> None:
        self.repositories: dict[str, Path] = {}
        self.gated: set[str] = set()
        self.spoilt: set[str] = set()
        self.asked: list[str] = []
        self.endpoint = ""

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body."""
        parts = unquote(path).partition("?")[0].strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        owner, name, *rest = parts[2:] if api else parts
        repository = f"{owner}/{name}"
        folder = self.repositories.get(repository)
        if folder is None:
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        if repository in self.gated:
            return 403, {"X-Error-Code": "GatedRepo"}, b""
        if len(rest) > 1 and rest[1] not in ("main", COMMIT):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        if not api:
            return self._file(folder, "/".join(rest[2:]))
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        if rest[:1] == ["tree"]:
            return 200, {}, json.dumps([self._entry(folder, file) for file in files]).encode()
        siblings = [{"rfilename": file.relative_to(folder).as_posix()} for file in files]
        found = {"id": repository, "modelId": repository, "sha": COMMIT, "siblings": siblings}
        return 200, {}, json.dumps(found).encode()

    def _entry(self, folder: Path, file: Path) -> dict[str, object]:
        data = file.read_bytes()
        entry = {"type": "file", "path": file.relative_to(folder).as_posix(), "size": len(data), "oid": _sha1(data)}
        lfs = {"oid": _sha256(data), "size": len(data), "pointerSize": 130}
        return {**entry, "lfs": lfs} if file.suffix in WEIGHTS else entry

    def _file(self, folder: Path, name: str) -> tuple[int, dict[str, str], bytes]:
        file = folder / name
        if not file.is_file():
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        data = file.read_bytes()
        etag = _sha256(data) if file.suffix in WEIGHTS else _sha1(data)
        if name in self.spoilt:
            data = data[:-1] + bytes([data[-1] ^ 1])
        return 200, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, data


def _sha1(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@contextmanager
def hub_in_place(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """One in the place of the real one, for this process, whose caches are in the folder."""
    with hub_server() as hub:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setattr(constants, "ENDPOINT", hub.endpoint)
        address = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address)
        patch.setattr(constants, "HF_HUB_CACHE", str(folder / "hub-cache"))
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield hub


@contextmanager
def hub_server() -> Iterator[Hub]:
    """Start one in this process."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = hub.answer(self.path)
            if self.command == "GET":
                hub.asked.append(self.path)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
