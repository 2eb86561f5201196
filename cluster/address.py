"""Address: where the Jobs API of a cluster is, who vouches for it, and what every request says beside its token."""

import ipaddress
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from actors.errors import ClusterError, Problem, UsageError
from actors.faults import IN_A_URL

Say = Callable[[str], None]

HERE = "http://127.0.0.1:8265"
"""Where Ray's dashboard listens, and where a tunnel to it ends."""
VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
"""With either, Ray would take its value, whatever address it is given."""
HEADERS = "RAY_JOB_HEADERS"
"""Ray's own: a JSON object. For headers that are secrets, as a command line can be read by everybody on the machine."""
AUTHORIZATION = frozenset({"authorization", "x-ray-authorization"})
SECRET = re.compile(
    r"secret|token|password|passwd|credential|authorization|cookie|(^|[_-])auth($|[_-])|key|signature", re.I
)
"""What a name says that is the name of a secret."""


@dataclass(frozen=True, slots=True)
class Address:
    """Of a cluster's head."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca: str | None = None
    """A file with certificates of authorities; None: those that the machine trusts."""

    @property
    def is_loopback(self) -> bool:
        host = urlsplit(self.url).hostname or ""
        try:
            return host == "localhost" or ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False

    @property
    def has_token(self) -> bool:
        """Whether requests will say who asks."""
        if AUTHORIZATION & {name.lower() for name in self.headers}:
            return True
        file = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
        asked_for = os.environ.get("RAY_AUTH_MODE", "").lower() in ("token", "k8s")
        return asked_for and (bool(os.environ.get("RAY_AUTH_TOKEN")) or file.is_file())


def choose_address(
    asked: str | None, say: Say, *, headers: Iterable[str] = (), ca: str | None = None, insecure: bool = False
) -> Address:
    """The address that is asked for; else the one of Ray's variables; else this machine, or a tunnel that ends here.

    Raises `UsageError` for what is no address, and `ClusterError` for one that is open to all, unless that is what is
    wanted (`insecure`).
    """
    name, theirs = named_by_environment()
    if asked and theirs and _bare(theirs) != _bare(asked):
        say(f"{name} is {_shown(theirs)}, which Ray would take; --address wins: {_shown(asked)}")
    url = _bare(asked or theirs or HERE)
    refuse_malformed(url, "--address" if asked else name)
    address = Address(url, {**_from_environment(), **dict(_header(one) for one in headers)}, ca)
    if ca and not Path(ca).exists():
        raise UsageError(Problem("LM1103", "there is no file of certificates here", where=ca, help="correct --ca"))
    if not insecure and not address.is_loopback and not url.startswith("https://"):
        _refuse_open(address, say)
    return address


def named_by_environment() -> tuple[str, str]:
    """The variable that Ray would go by, and its value; both empty where there is none."""
    return next(((name, os.environ[name]) for name in VARIABLES if os.environ.get(name)), ("", ""))


def is_secret(name: str) -> bool:
    """Whether the name says that the value is nobody's business."""
    return SECRET.search(name) is not None


def _bare(url: str) -> str:
    return url.strip().rstrip("/")


def _shown(url: str) -> str:
    """Without a password."""
    return IN_A_URL.sub("://...@", url)


def refuse_malformed(url: str, where: str) -> None:
    """Raise `UsageError` for what is no address of a Jobs API, and for one with a password."""
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        known = False
    example = "http://127.0.0.1:8265, where `ray dashboard` or a port-forward ends, or https://HOST"
    if not known:
        message = "jobs are sent to the Jobs API of a cluster, an http:// or https:// address"
        raise UsageError(Problem("LM1103", message, where=where, value=_shown(url), help=example))
    if parts.username or parts.password:
        message = "an address with a password is shown and logged in many places"
        raise UsageError(Problem("LM1507", message, where=where, help=f"give it as a header, in {HEADERS}"))


def _refuse_open(address: Address, say: Say) -> None:
    """On an open line a token can be read; without one, whoever reaches the address may run what they like."""
    tunnel = "use https://, or a tunnel to the head (`ray dashboard`, `kubectl port-forward`); or say --insecure-http"
    if address.has_token:
        say(f"the token goes to {address.url} for all on the way to read; {tunnel}")
        return
    message = f"{address.url} is neither encrypted nor asked with a token: anybody there may run anything"
    raise ClusterError(Problem("LM1505", message, help=tunnel))


def _from_environment() -> dict[str, str]:
    said = os.environ.get(HEADERS)
    if not said:
        return {}
    try:
        headers = json.loads(said)
    except ValueError:
        headers = None
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        message = f"{HEADERS} is no JSON object of strings"
        raise UsageError(Problem("LM1103", message, where=f"{HEADERS} in the environment", help='{"NAME": "VALUE"}'))
    return headers


def _header(entry: str) -> tuple[str, str]:
    name, separator, value = entry.partition("=")
    if not (name and separator):
        raise UsageError(Problem("LM1103", "a header is NAME=VALUE", where="--header", help="--header X-Team=cats"))
    if is_secret(name):
        message = f"the header {name} looks like a secret, and a command line can be read by everybody on the machine"
        action = f"put it into the variable {HEADERS}, as a JSON object"
        raise UsageError(Problem("LM1507", message, where="--header", help=action))
    return name, value
