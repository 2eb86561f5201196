"""A web server of images on loopback, with the manners that strangers' servers have."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ssl import SSLContext

DRIP_SECONDS = 0.05


class WebServer(ThreadingHTTPServer):
    """Answers as `files` says for each path: bytes, a status, or a list of either, one a request; `head:` and `drip:`
    paths dawdle. `asked` counts the requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes | int | str | list[bytes | int]] = {}
        self.asked: Counter[str] = Counter()
        self.headers: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: WebServer

    def do_GET(self) -> None:
        path = self.path
        self.server.asked[path] += 1
        self.server.headers.append(dict(self.headers))
        answer = self.server.files.get(path, 404)
        if isinstance(answer, list):
            answer = answer[min(self.server.asked[path], len(answer)) - 1]
        if isinstance(answer, str):
            self._say(302, b"", Location=answer)
        elif isinstance(answer, int):
            self._say(answer, b"")
        elif path.startswith("/drip"):
            self._drip(answer)
        elif path.startswith("/endless"):
            self._endless(answer)
        else:
            self._say(200, answer, **{"Content-Length": str(len(answer))})

    def _say(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _drip(self, body: bytes) -> None:
        """`/drip-head` begins with a head that does not end."""
        if self.path == "/drip-head":
            self.wfile.write(b"HTTP/1.0 200 OK\r\nX-Slow: ")
        else:
            self._say(200, b"", **{"Content-Length": str(len(body))})
        for byte in body:
            try:
                self.wfile.write(bytes([byte]))
            except OSError:
                return
            time.sleep(DRIP_SECONDS)

    def _endless(self, block: bytes) -> None:
        """Without a length, until nobody listens."""
        self._say(200, b"")
        try:
            while True:
                self.wfile.write(block)
        except OSError:
            return

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def web_server(tls: SSLContext | None = None) -> Iterator[WebServer]:
    """A server in this process."""
    with WebServer() as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
