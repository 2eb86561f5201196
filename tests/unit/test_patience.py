"""Replies that break off in the middle of what they say are no replies, whatever library notices it."""

import socket
import struct
import threading
import time
from contextlib import closing

import pytest

from actors.errors import StorageError
from actors.settings import StorageSettings
from actors.storage.opening import open_bucket

REFUSED = b"HTTP/1.1 503 Slow Down\r\nDate: Sat, 28 Nov 2026 00:00:00 GMT\r\nContent-Length: 1000\r\n\r\n<Error>"
ANSWERED = b'HTTP/1.1 200 OK\r\nDate: Sat, 28 Nov 2026 00:00:00 GMT\r\nETag: "e"\r\nContent-Length: 3\r\n\r\none'


@pytest.fixture
def store(monkeypatch):
    """A bucket on a server that gives each of these answers to one connection, and breaks off those that are short."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "me")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def serve(answers):
            for answer in answers:
                connection, _ = server.accept()
                with closing(connection):
                    connection.recv(65536)
                    connection.sendall(answer)
                    if answer is REFUSED:
                        time.sleep(0.05)  # a reset throws away what was not read yet
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        def build(*answers, patience_seconds):
            threading.Thread(target=serve, args=(answers,), daemon=True).start()
            endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
            return open_bucket("s3://b/p", StorageSettings(endpoint_url=endpoint), patience_seconds=patience_seconds)

        yield build


def test_a_refusal_that_breaks_off_is_asked_for_again(store):
    assert store(REFUSED, REFUSED, ANSWERED, patience_seconds=20).get("a") == b"one"


def test_one_that_always_does_is_explained(store):
    with pytest.raises(StorageError) as caught:
        store(*[REFUSED] * 50, patience_seconds=1).get("a")
    assert [problem.code for problem in caught.value.problems] == ["LM1308"]
