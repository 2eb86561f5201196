"""Url: where a file lies, in the parts that decide whether it lies under another address.

Addresses come from tables that may be anybody's. They are compared part by part, as whoever resolves them will, and
never as text, in which `https://a.example` is the begin of `https://a.example.evil.org`. What servers and libraries
read in more than one way is no address here.
"""

import re
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import unquote, urlsplit

PORTS = {"http": 80, "https": 443}
_PLAIN = re.compile(r"[!-\[\]-~]+")
"""ASCII without white space, without controls, which some parsers drop, and without `\\`, which some take for `/`."""
_HOST = re.compile(r"[a-z0-9._:-]+")


@dataclass(frozen=True, slots=True)
class Url:
    """An object of a store, or a file of the web; or a prefix of either."""

    scheme: str
    host: str
    """Of `s3` the bucket. In small letters elsewhere; of an IPv6 address without its brackets."""
    port: int
    """0 of `s3`."""
    path: tuple[str, ...]
    """What stands between the slashes, decoded once. A slash at the end adds nothing."""
    text: str = field(compare=False)
    target: str = field(compare=False)
    """What is asked for there: the key of an object, or path and query as they were written."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises `ValueError` with a clause that says what is wrong with it."""
        if not text.startswith("s3://"):
            return cls._of_web(text)
        url = cls.in_store(text)
        if not url.host:
            raise ValueError("it names no bucket")
        if {".", ".."} & set(url.path):
            raise ValueError("it leads elsewhere with . or ..")
        return url

    @classmethod
    def in_store(cls, text: str) -> Self:
        """Of an `s3://` URL that is known to be good. Nothing in a key is a code for something else."""
        bucket, _, key = text.removeprefix("s3://").partition("/")
        return cls("s3", bucket, 0, _segments(key), text, key)

    @classmethod
    def _of_web(cls, text: str) -> Self:
        if not _PLAIN.fullmatch(text):
            raise ValueError("it has characters that an address writes with %")
        try:
            parts = urlsplit(text)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            raise ValueError("it is no address") from None
        if parts.scheme not in PORTS:
            raise ValueError(f"nothing is fetched from {parts.scheme}:")
        if "@" in parts.netloc:
            raise ValueError("it names a user")
        if not _HOST.fullmatch(host):
            raise ValueError("it names no host")
        path = tuple(_decoded(segment) for segment in _segments(parts.path.removeprefix("/")))
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(parts.scheme, host, PORTS[parts.scheme] if port is None else port, path, text, target)

    @property
    def netloc(self) -> str:
        """As the header `Host` has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS.get(self.scheme, 0) else f"{host}:{self.port}"

    def is_under(self, prefix: "Url") -> bool:
        """Whether it is the prefix or lies below it, at the same host and by the same scheme and port."""
        same = (self.scheme, self.host, self.port) == (prefix.scheme, prefix.host, prefix.port)
        return same and self.path[: len(prefix.path)] == prefix.path


def _segments(path: str) -> tuple[str, ...]:
    path = path.removesuffix("/")
    return tuple(path.split("/")) if path else ()


def _decoded(segment: str) -> str:
    """A part of a path as its server sees it. Raises `ValueError` for one that is a way elsewhere, also to a server
    that decodes twice, or ends a name at a semicolon."""
    once = last = unquote(segment, "latin-1")  # bytes for bytes: in UTF-8 all that is invalid would be the same
    while (further := unquote(last, "latin-1")) != last:
        last = further
    if last.partition(";")[0] in (".", ".."):
        raise ValueError("it leads elsewhere with . or ..")
    if "/" in last or "\\" in last:
        raise ValueError("it hides a slash in its path")
    return once
