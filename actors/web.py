"""Web: files from servers that a job allows by name (the only user of urllib3's connections).

Which file is asked for stands in a table, and what comes back is up to a stranger: so every address on the way is one
that the job allows, the connection goes to the very address that was looked at, and bytes and seconds are counted.
"""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import cached_property
from http.client import HTTPException
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import urljoin

import stamina
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError
from urllib3.response import HTTPResponse

from actors.errors import Problem, Stopped
from actors.storage.bucket import Wanted, always
from actors.urls import Url

ATTEMPTS = 4
MOST_REDIRECTS = 5
STEP_SECONDS = 10.0
"""For a connection, and for each byte that is waited for."""
FILE_SECONDS = 60.0
"""For a whole answer: one that drips would hold a thread for ever."""
BLOCK_BYTES = 1 << 20
REDIRECTS = frozenset({301, 302, 303, 307, 308})
PASSING_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
HEADERS = {"User-Agent": "lightmill", "Accept": "image/png,image/jpeg,image/webp", "Connection": "close"}
CARRIERS = (IPv6Network("64:ff9b::/96"), IPv6Network("::/96"))
"""Of IPv4 addresses: NAT64, and what was once meant for automatic tunnels, which some systems still follow."""
OF_A_SITE = (IPv6Network("fec0::/10"), IPv6Network("64:ff9b:1::/48"))
"""Which Python 3.11 takes for global: site-local addresses, and those of a NAT64 of one's own."""


class NotFetched(Exception):
    """There is no such file, or it may not be read; in `passing` cases the same request may succeed a little later."""

    def __init__(self, why: str, *, passing: bool = False) -> None:
        super().__init__(why)
        self.passing = passing


class Web:
    """Files by their addresses. Any number of threads may ask."""

    def __init__(
        self,
        allows: Callable[[Url], bool],
        max_bytes: int,
        wanted: Wanted = always,
        file_seconds: float = FILE_SECONDS,
    ) -> None:
        self._allows = allows
        self._max_bytes = max_bytes
        self._wanted = wanted
        self._file_seconds = file_seconds
        self._down: set[str] = set()
        """Hosts that did not answer, however often they were asked: each file of theirs is asked for once, until one
        comes. Else a shard would take hours to find out what its first row knows."""

    def get(self, url: Url) -> bytes:
        """The whole file. Raises `NotFetched`, and `Stopped` where it is wanted no longer."""
        attempts = 1 if url.host in self._down else ATTEMPTS
        caller = stamina.RetryingCaller(attempts=attempts, timeout=self._file_seconds, wait_initial=0.5)
        try:
            data = caller(self._is_worth_it, self._follow, url)
        except NotFetched as error:
            if error.passing and not self._wanted():
                raise Stopped(Problem("LM1610", "stopped on request; the same command resumes the job")) from error
            if error.passing:
                self._down.add(url.host)
            raise
        self._down.discard(url.host)
        return data

    def _is_worth_it(self, error: Exception) -> bool:
        return isinstance(error, NotFetched) and error.passing and self._wanted()

    def _follow(self, url: Url) -> bytes:
        for _ in range(MOST_REDIRECTS + 1):
            answer = self._ask(url)
            if isinstance(answer, bytes):
                return answer
            url = answer
        raise NotFetched(f"it leads on and on, more than {MOST_REDIRECTS} times")

    def _ask(self, url: Url) -> bytes | Url:
        """The file, or where it is said to be instead."""
        try:
            with closing(self._connect(url)) as connection, _limited(connection, self._file_seconds):
                connection.request("GET", url.target, headers={"Host": url.netloc, **HEADERS}, preload_content=False)
                with closing(connection.getresponse()) as answer:
                    return self._redirected(url, answer) if answer.status in REDIRECTS else self._read(answer)
        except ssl.SSLCertVerificationError as error:
            raise NotFetched(f"the certificate of {url.host} is not trusted: {error.verify_message}") from error
        except (OSError, HTTPException, HTTPError) as error:
            raise NotFetched(f"{url.netloc} does not answer as it should: {error}", passing=True) from error

    def _read(self, answer: HTTPResponse) -> bytes:
        if answer.status != 200:
            raise NotFetched(
                f"the server says {answer.status} {answer.reason}".rstrip(), passing=answer.status in PASSING_STATUS
            )
        data = bytearray()
        while block := answer.read(BLOCK_BYTES, decode_content=False):
            data += block
            if len(data) > self._max_bytes:
                raise NotFetched(f"it has more than {self._max_bytes:,} bytes")
        return bytes(data)

    def _redirected(self, url: Url, answer: HTTPResponse) -> Url:
        location = answer.headers.get("Location", "")
        try:
            location = urljoin(url.text, location)
            target = Url.parse(location)
            allowed = target.scheme != "s3" and self._allows(target)
        except ValueError:
            allowed = False
        if not allowed:
            raise NotFetched(f"it leads on to {location[:200]}, which the job does not allow")
        return target

    def _connect(self, url: Url) -> HTTPConnection:
        """To the very address that was found to be public: asked once more, a name may stand for another one."""
        failure: OSError | None = None
        for address in _addresses(url):
            connection = self._connection(url, address)
            try:
                connection.connect()
            except OSError as error:
                connection.close()
                failure = error
            else:
                return connection
        assert failure is not None
        raise failure

    def _connection(self, url: Url, address: str) -> HTTPConnection:
        if url.scheme == "http":
            return HTTPConnection(address, url.port, timeout=STEP_SECONDS)
        return HTTPSConnection(
            address, url.port, timeout=STEP_SECONDS, server_hostname=url.host, ssl_context=self._trust
        )

    @cached_property
    def _trust(self) -> ssl.SSLContext:
        return ssl.create_default_context()


@contextmanager
def _limited(connection: HTTPConnection, seconds: float) -> Iterator[None]:
    """What still waits for the connection after so many seconds finds it closed. Raises `NotFetched`."""
    late = threading.Event()
    sock = connection.sock  # which the connection forgets as soon as it has read the head of an answer

    def cut() -> None:
        late.set()
        with suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)  # that of a TLS socket would disturb who reads from it

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, HTTPException, HTTPError):
        if not late.is_set():
            raise
    finally:
        timer.cancel()
    if late.is_set():
        raise NotFetched(f"it took more than {seconds:g} seconds", passing=True)


def _addresses(url: Url) -> list[str]:
    """All that the host stands for. A name is its owner's to point anywhere: not at this machine, nor its network."""
    try:
        found = socket.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        passing = isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN
        raise NotFetched(f"{url.host} is not found", passing=passing) from error
    addresses = [str(entry[4][0]) for entry in found]
    if not _is_address(url.host):
        for address in addresses:
            if not is_public(address):
                raise NotFetched(f"{url.host} stands for {address}, which is only allowed by that address itself")
    return addresses


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def is_public(text: str) -> bool:
    """Whether an address is anybody's to reach: not this machine's, nor of its network, in whatever clothes."""
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address):
        inner = [address.ipv4_mapped, address.sixtofour, (address.teredo or (None, None))[1]]
        inner += [IPv4Address(address.packed[-4:]) for network in CARRIERS if address in network]
        carried = next(filter(None, inner), None)
        if carried is not None:
            return is_public(str(carried))
        if any(address in network for network in OF_A_SITE):
            return False
    return address.is_global and not address.is_multicast
