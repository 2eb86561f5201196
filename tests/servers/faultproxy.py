"""A proxy between a client and an S3 server that spoils chosen requests in named ways, and counts what it spoiled.

    with FaultProxy(server.endpoint) as proxy:
        proxy.add("lost", method="PUT", path=r"/metadata/", times=1)
        ...                                    # a client pointed at proxy.endpoint
        assert proxy.hits["lost"] == 1

The Host header goes through as the client signed it, so signatures stay valid.
"""

import asyncio
import random
import re
import ssl
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from servers.certificates import Certificates
from servers.faults import FAULTS, Act, Exchange, hang_up
from servers.http_messages import RequestHead, read_head


@dataclass
class Rule:
    """Which requests meet which fate. Patterns are searched for; the method must match as a whole."""

    act: Act
    method: str = ".*"
    path: str = ""
    query: str = ""
    times: int | None = None
    """How often at most; None is for ever."""
    probability: float = 1.0
    seconds: float = 0.1
    """How long a `delay` is."""
    seed: int = 0
    hits: int = 0
    chance: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)

    def applies(self, head: RequestHead) -> bool:
        """Whether this request is to be spoiled. Draws a number for each request that matches."""
        return (
            (self.times is None or self.hits < self.times)
            and re.fullmatch(self.method, head.method) is not None
            and re.search(self.path, head.path) is not None
            and re.search(self.query, head.query) is not None
            and self.chance.random() < self.probability
        )

    def miss(self) -> None:
        """Take a hit back: there was nothing to spoil."""
        self.hits -= 1


class FaultProxy:
    """Passes everything through until rules are added; the first rule that applies to a request decides.

    A proxy for an `https` server speaks TLS on both sides, and needs that server's certificates for it.
    """

    def __init__(self, upstream: str, certificates: Certificates | None = None) -> None:
        url = urlsplit(upstream)
        self._upstream = (url.hostname, url.port)
        self._serve_tls: ssl.SSLContext | None = None
        self._call_tls: ssl.SSLContext | None = None
        if url.scheme == "https":
            assert certificates, "a proxy for a TLS server needs the server's certificates"
            self._serve_tls = certificates.server_context()
            self._call_tls = ssl.create_default_context(cafile=certificates.ca_bundle)
        self._scheme = url.scheme
        self._rules: list[Rule] = []
        self._cleared: list[Rule] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="fault proxy")
        self.requests: list[str] = []
        """`METHOD /path?query` of every request that came, spoiled or not."""

    def add(self, act: Act, **match: object) -> Rule:
        """Spoil what matches from now on; see Rule for the words."""
        rule = Rule(act, **match)
        self._rules.append(rule)
        return rule

    def clear(self) -> None:
        """Fair weather again; the counts stay."""
        self._cleared += self._rules
        self._rules = []

    @property
    def hits(self) -> Counter[str]:
        """How often each act was carried out."""
        hits: Counter[str] = Counter()
        for rule in (*self._cleared, *self._rules):
            hits[rule.act] += rule.hits
        return +hits

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10), "the proxy did not start"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        server = await asyncio.start_server(
            self._connected, "127.0.0.1", 0, backlog=1024, **tls_options(self._serve_tls)
        )
        self.endpoint = f"{self._scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        await self._over.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._loop.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one client's requests until either side has had enough."""
        try:
            with suppress(ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
                while not writer.is_closing() and (raw := await read_head(reader)):
                    head = RequestHead(raw)
                    self.requests.append(f"{head.method} {head.path}{'?' if head.query else ''}{head.query}")
                    await self._answer(Exchange(head, reader, writer, self._call))
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        finally:
            await hang_up(writer)

    async def _answer(self, exchange: Exchange) -> None:
        rule = next((rule for rule in self._rules if rule.applies(exchange.head)), None)
        try:
            if rule is None:
                await exchange.relay()
            else:
                rule.hits += 1
                await FAULTS[rule.act](exchange, rule)
        except OSError:
            exchange.reset()  # no server behind the proxy looks like none at all

    async def _call(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = self._upstream
        return await asyncio.open_connection(host, port, **tls_options(self._call_tls))


def tls_options(context: ssl.SSLContext | None) -> dict[str, object]:
    """A peer that does not answer a goodbye is waited for one second, not thirty."""
    return {"ssl": context, "ssl_shutdown_timeout": 1} if context else {}
