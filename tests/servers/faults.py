"""The ways in which the fault proxy spoils one request. A fault that finds nothing to spoil takes its hit back."""

import asyncio
import random
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, Protocol

from servers.http_messages import RequestHead, Response, read_request_body, read_response

Act = Literal[
    "slow_down", "reset_before", "reset_request", "reset_response", "torn", "torn_head", "flip", "lost", "delay"
]

SLOW_DOWN_XML = (
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message>'
    b"<RequestId>fault-proxy</RequestId></Error>"
)
SLOW_DOWN = b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n" % len(
    SLOW_DOWN_XML
)
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
ARRIVAL_S = 0.05
"""A reset throws away what the receiver has not read yet: time for it to read the first half."""


class Fault(Protocol):
    """What of a rule matters once it applies."""

    seconds: float
    chance: random.Random

    def miss(self) -> None: ...


async def hang_up(writer: asyncio.StreamWriter) -> None:
    """Close and wait until it is done; a peer that has gone before is no matter."""
    writer.close()
    with suppress(ConnectionError, ssl.SSLError, TimeoutError):
        await writer.wait_closed()


@dataclass
class Exchange:
    """One request, of which only the head has been read, and the way to answer it."""

    head: RequestHead
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    call: Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]

    def __post_init__(self) -> None:
        """The proxy itself tells the client to go on, so the server must not be asked to."""
        if "expect" in self.head.headers:
            self.writer.write(CONTINUE)
            self.head = RequestHead(self.head.without("expect").raw)

    async def fetch(self) -> Response:
        """Pass the whole request on and take the whole reply."""
        body = await read_request_body(self.reader, self.head)
        reader, writer = await self.call()
        try:
            writer.write(self.head.raw + body)
            await writer.drain()
            return await read_response(reader, self.head.method)
        finally:
            writer.transport.abort()
            await hang_up(writer)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def relay(self) -> None:
        """No fault at all."""
        response = await self.fetch()
        await self.send(response.head.raw + response.body)
        if "close" in response.head.headers.get("connection", "").lower():
            self.writer.close()

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        connection = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


async def slow_down(exchange: Exchange, _: Fault) -> None:
    """503 SlowDown; the server hears nothing."""
    await read_request_body(exchange.reader, exchange.head)
    await exchange.send(SLOW_DOWN + SLOW_DOWN_XML)


async def reset_before(exchange: Exchange, _: Fault) -> None:
    """Reset with the body unread; the server hears nothing."""
    exchange.reset()


async def reset_request(exchange: Exchange, rule: Fault) -> None:
    """The server gets the head and half of the body, then both connections end, the client's by a reset."""
    if exchange.head.is_chunked or not exchange.head.content_length:
        rule.miss()
        await exchange.relay()
        return
    half = await exchange.reader.readexactly(exchange.head.content_length // 2)
    _, writer = await exchange.call()
    writer.write(exchange.head.raw + half)
    await hang_up(writer)
    exchange.reset()


async def reset_response(exchange: Exchange, _: Fault) -> None:
    """The server does its work; the client gets half of the reply and a reset."""
    response = await exchange.fetch()
    reply = response.head.raw + response.body
    await exchange.send(reply[: len(reply) // 2])
    await asyncio.sleep(ARRIVAL_S)
    exchange.reset()


async def torn(exchange: Exchange, rule: Fault) -> None:
    """Half of the body, then an ordinary close, against the promised Content-Length."""
    response = await exchange.fetch()
    if not response.body:
        rule.miss()
    await exchange.send(response.head.raw + response.body[: len(response.body) // 2])
    exchange.writer.close()


async def torn_head(exchange: Exchange, rule: Fault) -> None:
    """The server does its work; the client gets the status and some headers, then an ordinary close."""
    response = await exchange.fetch()
    lines = response.head.raw.rstrip().split(b"\r\n")
    await exchange.send(b"\r\n".join(lines[: rule.chance.randint(1, len(lines) - 1)]) + b"\r\n")
    await hang_up(exchange.writer)


async def flip(exchange: Exchange, rule: Fault) -> None:
    """The whole reply with one bit of its body changed."""
    response = await exchange.fetch()
    body = bytearray(response.body)
    if response.head.is_chunked or not body:
        rule.miss()
    else:
        body[rule.chance.randrange(len(body))] ^= 1 << rule.chance.randrange(8)
    await exchange.send(response.head.raw + body)


async def lost(exchange: Exchange, _: Fault) -> None:
    """The server does its work and answers; the client gets a reset instead."""
    await exchange.fetch()
    exchange.reset()


async def delay(exchange: Exchange, rule: Fault) -> None:
    """The request waits before it is passed on."""
    await asyncio.sleep(rule.seconds)
    await exchange.relay()


FAULTS: dict[Act, Callable[[Exchange, Fault], Awaitable[None]]] = {
    "slow_down": slow_down,
    "reset_before": reset_before,
    "reset_request": reset_request,
    "reset_response": reset_response,
    "torn": torn,
    "torn_head": torn_head,
    "flip": flip,
    "lost": lost,
    "delay": delay,
}
