"""Free ports on loopback, and waiting for somebody to answer there."""

import random
import socket
import ssl
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from urllib.parse import urlsplit

from processes import wait_until

BELOW_EPHEMERAL = range(20_000, 32_000)
"""Linux gives outgoing connections 32768 and up. A client that keeps calling a dead server on such a port can be
given that very port as its own and connect to itself; the server could then never be started again."""


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on now."""
    found: list[int] = []
    while len(found) < count:
        port = random.choice(BELOW_EPHEMERAL)
        if port not in found and _is_free(port):
            found.append(port)
    return found


def _is_free(port: int) -> bool:
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def wait_for_answer(endpoint: str, ca: Path, timeout_s: float) -> None:
    """Return once an HTTP request to the endpoint gets any reply."""
    wait_until(lambda: _answers(endpoint, ca), timeout_s, f"{endpoint} to answer")


def _answers(endpoint: str, ca: Path) -> bool:
    url = urlsplit(endpoint)
    if url.scheme == "https":
        context = ssl.create_default_context(cafile=ca)
        connection: HTTPConnection = HTTPSConnection(url.hostname, url.port, timeout=5, context=context)
    else:
        connection = HTTPConnection(url.hostname, url.port, timeout=5)
    with closing(connection), suppress(OSError, HTTPException):
        connection.request("GET", "/")
        connection.getresponse().close()
        return True
    return False
