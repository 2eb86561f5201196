"""moto's S3 in threads of the test process: for unit tests. Its data is one global of this process."""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock, Thread
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import BaseWSGIServer, make_server

from servers.server import S3Server


class QuietHandler(MotoRequestHandler):
    """Without a line on stderr per request."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


class OneAtATime:
    """Conditional writes one after the other: moto looks and writes in two steps, and another may come between."""

    def __init__(self, application: WSGIApplication) -> None:
        self._application = application
        self._lock = Lock()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if "HTTP_IF_MATCH" in environ or "HTTP_IF_NONE_MATCH" in environ:
            with self._lock:
                return self._application(environ, start_response)
        return self._application(environ, start_response)


class MotoServer(S3Server):
    """Checks preconditions but no signatures, and answers 500 to some of several PUTs over one key at once."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._serving: list[tuple[BaseWSGIServer, Thread]] = []
        self.start_gateway()

    def start_gateway(self) -> None:
        application = OneAtATime(DomainDispatcherApplication(create_backend_app))
        for port, context in ((self.port, None), (self.tls_port, self.certificates.server_context())):
            server = make_server(
                "127.0.0.1", port, application, threaded=True, request_handler=QuietHandler, ssl_context=context
            )
            thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
            thread.start()
            self._serving.append((server, thread))

    def kill_gateway(self) -> None:
        """Stop listening; a request that is being answered ends as it would."""
        while self._serving:
            server, thread = self._serving.pop()
            server.shutdown()
            thread.join()
            server.server_close()

    def stop(self) -> None:
        self.kill_gateway()


@contextmanager
def moto_server() -> Iterator[MotoServer]:
    """Start a server in this process."""
    with tempfile.TemporaryDirectory(prefix="lightmill-moto-") as folder, MotoServer(Path(folder)) as server:
        yield server
