"""Reading HTTP/1.1 messages off a connection, byte for byte, so that they can be passed on or spoiled."""

import asyncio
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import unquote


@dataclass(frozen=True)
class Head:
    """Start line and headers, as they came."""

    raw: bytes

    @cached_property
    def start(self) -> list[str]:
        return self.raw.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)

    @cached_property
    def headers(self) -> dict[str, str]:
        """By lower-case name."""
        lines = self.raw.decode("latin-1").split("\r\n")[1:]
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}

    @property
    def is_chunked(self) -> bool:
        return "chunked" in self.headers.get("transfer-encoding", "").lower()

    def without(self, name: str) -> "Head":
        """The same head less one header."""
        start, *lines = self.raw.split(b"\r\n")
        kept = [line for line in lines if line.partition(b":")[0].lower() != name.encode()]
        return Head(b"\r\n".join([start, *kept]))


@dataclass(frozen=True)
class RequestHead(Head):
    """What is asked for. `path` is decoded, `query` is as sent."""

    @property
    def method(self) -> str:
        return self.start[0]

    @property
    def path(self) -> str:
        return unquote(self.start[1].partition("?")[0])

    @property
    def query(self) -> str:
        return self.start[1].partition("?")[2]

    @property
    def content_length(self) -> int:
        return int(self.headers.get("content-length", 0))


@dataclass(frozen=True)
class Response:
    """A whole reply."""

    head: Head
    body: bytes


async def read_head(reader: asyncio.StreamReader) -> bytes | None:
    """Up to and with the empty line, or None if the other side has closed the connection instead."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None


async def read_request_body(reader: asyncio.StreamReader, head: RequestHead) -> bytes:
    """The body with its framing, if it has one."""
    return await _read_chunks(reader) if head.is_chunked else await reader.readexactly(head.content_length)


async def read_response(reader: asyncio.StreamReader, method: str) -> Response:
    """The final reply to a request of this method; interim ones (100 Continue) are dropped."""
    while True:
        raw = await read_head(reader)
        if raw is None:
            raise ConnectionResetError("the server closed the connection without a reply")
        head = Head(raw)
        status = int(head.start[1])
        if status >= 200:
            break
    if method == "HEAD" or status in (204, 304):
        return Response(head, b"")
    if head.is_chunked:
        return Response(head, await _read_chunks(reader))
    if "content-length" in head.headers:
        return Response(head, await reader.readexactly(int(head.headers["content-length"])))
    return Response(head, await reader.read())


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    """Chunks, their sizes and the trailer, as they came."""
    pieces = []
    while True:
        pieces.append(await reader.readuntil(b"\r\n"))
        size = int(pieces[-1].partition(b";")[0], 16)
        if size == 0:
            break
        pieces.append(await reader.readexactly(size + 2))
    while pieces[-1] != b"\r\n":
        pieces.append(await reader.readuntil(b"\r\n"))
    return b"".join(pieces)
