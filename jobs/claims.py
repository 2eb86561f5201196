"""Claims: who drives an output, or would like to, as the store shows it: the objects `leases/<uuid>.json`.

The uuid begins with an epoch, so that the names sort by age, and whoever holds the newest epoch drives. A name is used
by one claim and stays until `clean` takes it: were it removed by whoever withdraws, a request of theirs that is
delayed could hit the next claim of that name.
"""

import json
import re
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import PurePosixPath
from typing import Any, Literal

from actors.errors import NotFound
from actors.records import SCHEMA_VERSION
from actors.storage.bucket import Bucket, ObjectInfo
from jobs.holder import Holder

TTL_SECONDS = 30.0
CLOCK_MARGIN = timedelta(seconds=2)
"""The `Date` header counts whole seconds, and `LastModified` may too."""
NOBODY = uuid.UUID(int=0)
_FOLDER = "leases/"
_NAME = re.compile(rf"{_FOLDER}[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}\.json")
"""What else lies there is a probe's, or not ours at all."""

State = Literal["candidate", "held", "released", "withdrawn"]
"""Those who withdrew never drove."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim, and when the store last took a word of it."""

    info: ObjectInfo
    epoch: int
    state: State
    token: str
    """One driver's own, to know it again when the reply to its write was lost."""
    holder: Holder

    def is_live(self, now: datetime) -> bool:
        """Whether it is in force at `now`, which is a time of the store's own clock, as is that of the claim."""
        expired = now - self.info.modified >= timedelta(seconds=TTL_SECONDS) + CLOCK_MARGIN
        return self.state in ("candidate", "held") and not expired and not self.holder.is_dead


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims that count: all since an epoch, and of the two newest epochs that anybody drove in."""

    now: datetime
    """Taken before they were listed: whoever is frozen in between finds them younger than they are, not older."""
    newest: int
    """The newest epoch of all, also of those who withdrew."""
    all: tuple[Claim, ...]

    @classmethod
    def read(cls, bucket: Bucket, since: int | None = None) -> "Claims":
        """List the claims, and read those that count."""
        now = bucket.now()
        infos = list(list_claims(bucket))
        return cls(now, max((_epoch(info) for info in infos), default=0), tuple(_read(bucket, infos, since)))

    @property
    def live(self) -> tuple[Claim, ...]:
        """Those in force."""
        return tuple(claim for claim in self.all if claim.is_live(self.now))

    def others(self, token: str) -> "Claims":
        """Without one driver's own."""
        return Claims(self.now, self.newest, tuple(claim for claim in self.all if claim.token != token))


def list_claims(bucket: Bucket) -> Iterator[ObjectInfo]:
    """Every claim that there is, oldest epoch first."""
    return (info for info in bucket.list(_FOLDER) if _NAME.fullmatch(info.key))


def claim_key(epoch: int, tail: uuid.UUID) -> str:
    """The name of a claim. Version 8 of a UUID is the one whose bits are the user's own (RFC 9562): 48 bits of epoch,
    then the tail."""
    number = (epoch << 80) | (tail.int & ((1 << 80) - 1))
    return f"{_FOLDER}{uuid.UUID(int=number & ~(0xF << 76) | (8 << 76))}.json"


def claim_body(state: State, token: str, holder: Holder) -> bytes:
    """What a claim says."""
    body = {"schema_version": SCHEMA_VERSION, "state": state, "token": token, "holder": asdict(holder)}
    return json.dumps(body).encode()


def read_claim(bucket: Bucket, info: ObjectInfo) -> Claim | None:
    """The claim, or None if it has been removed since it was listed."""
    try:
        body: dict[str, Any] = json.loads(bucket.get(info.key))
    except NotFound:
        return None
    return Claim(info, _epoch(info), body["state"], body["token"], Holder(**body["holder"]))


def _read(bucket: Bucket, infos: Iterable[ObjectInfo], since: int | None) -> Iterator[Claim]:
    driven = 0
    for epoch, members in groupby(sorted(infos, key=_epoch, reverse=True), key=_epoch):
        if driven >= 2 and (since is None or epoch < since):
            return
        claims = [claim for info in members if (claim := read_claim(bucket, info))]
        driven += any(claim.state != "withdrawn" for claim in claims)
        yield from claims


def _epoch(info: ObjectInfo) -> int:
    return uuid.UUID(PurePosixPath(info.key).stem).int >> 80
