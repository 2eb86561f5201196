"""Lease: one driver at a time on an output, agreed upon through the store alone.

A lease is an object `leases/<uuid>.json` of which the uuid begins with an epoch, so that the names sort by age.
Whoever holds the newest epoch drives. It is renewed every 10 s by writing it again; its age is the store's
`LastModified` against the store's own clock, never two machines' clocks. After 30 s without renewal it may be
taken over, by claiming the next epoch. How a claim is decided depends on the store's class (see `probe`):

- strong: all candidates of an epoch write the same name with `If-None-Match`; one write succeeds.
- otherwise: each candidate writes a name of its own, waits 3 s and lists: a lease that is held, or a candidate with a
  lower (LastModified, key), wins. A candidate whose write took over 1 s withdraws, since it may have become visible
  after the others had looked.

A claim that turns out to be older than another lease withdraws: the name it created may have been swept up by `clean`.
A driver that could not renew for 15 s commits nothing until it has; one that could not for 25 s has lost the lease, and
goes on only if it gets the next epoch *and* nobody held one in between, since then the output may have changed.
"""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from actors import crash
from actors.errors import NotFound, PreconditionFailed, Problem, RunError, StorageError
from actors.records import SCHEMA_VERSION
from actors.storage.bucket import Bucket, ObjectInfo
from actors.storage.probe import StoreClass

TTL_SECONDS = 30.0
RENEW_SECONDS = 10.0
LATE_SECONDS = 15.0
EXPIRED_SECONDS = 25.0
"""By the holder's own clock: less than the TTL, for the time that a write may be on its way."""
CLOCK_MARGIN = timedelta(seconds=2)
"""The `Date` header counts whole seconds, and `LastModified` may too."""

State = Literal["candidate", "held", "released"]


class LeaseHeld(RunError):
    """Somebody else drives this output now."""


class LeaseLost(RunError):
    """Somebody else has driven this output since: what this driver knows of it may be out of date."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Which process drives: enough to tell, on the same machine, whether it is still alive."""

    host: str
    boot_id: str
    pid: int
    started: int
    """Clock ticks from boot to the start of the process: a pid alone may have been given to another one."""
    purpose: str

    @classmethod
    def here(cls, purpose: str) -> Self:
        return cls(socket.gethostname(), _boot_id(), os.getpid(), _started(os.getpid()) or 0, purpose)

    def is_dead(self) -> bool:
        """True only if it surely is: it ran on this machine, and no longer does."""
        same_machine = (self.host, self.boot_id) == (socket.gethostname(), _boot_id())
        return same_machine and _started(self.pid) != self.started

    def __str__(self) -> str:
        return f"`lightmill {self.purpose}`, process {self.pid} on {self.host}"


@dataclass(frozen=True, slots=True)
class Seen:
    """A lease as the store shows it."""

    info: ObjectInfo
    epoch: int
    holder: Holder
    token: str
    """One Lease's own, to know it again when the reply to its write was lost."""
    state: State

    def is_live(self, bucket: Bucket) -> bool:
        age = bucket.now() - self.info.modified
        expired = age >= timedelta(seconds=TTL_SECONDS) + CLOCK_MARGIN
        return self.state != "released" and not expired and not self.holder.is_dead()


class Lease:
    """The right to change an output. As a context manager it is taken, kept renewed, and given back."""

    def __init__(
        self, bucket: Bucket, store: StoreClass, purpose: str, say: Callable[[str], None] = lambda _: None
    ) -> None:
        self._bucket = bucket
        self._store = store
        self._say = say
        self._holder = Holder.here(purpose)
        self._token = uuid.uuid4().hex
        self._epoch = 0
        self._key = ""
        self._renewed = 0.0
        self._lost: LeaseLost | None = None
        self._changed = threading.Condition()
        self._ending = threading.Event()
        self._renewer = threading.Thread(target=self._keep, name="lease", daemon=True)

    def __enter__(self) -> Self:
        self.acquire()
        self._renewer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._renewer.join()
        if self._lost is None and not isinstance(error, StorageError):
            self._write("released")

    def acquire(self) -> None:
        """Take the lease, waiting for one that seems to be abandoned. Raises `LeaseHeld` when it is not."""
        watched: Seen | None = None
        while True:
            rival = self._rival()
            if rival is None:
                if self._claim(_newest_epoch(self._bucket) + 1):
                    return
                continue
            alive_here = rival.holder.host == self._holder.host and not rival.holder.is_dead()
            renewed = watched is not None and (watched.info.key, watched.info.etag) != (rival.info.key, rival.info.etag)
            if rival.state == "held" and (alive_here or renewed):
                raise LeaseHeld(_held(self._bucket.url, rival.holder))
            if watched is None:
                self._say(f"waiting up to {TTL_SECONDS:.0f} s for the lease of {rival.holder}, in case it is gone")
            watched = rival
            time.sleep(1)

    def require(self) -> None:
        """Return only while this driver may commit. Waits for a renewal that is late; raises `LeaseLost`."""
        with self._changed:
            self._changed.wait_for(lambda: self._lost or _boottime() - self._renewed < LATE_SECONDS)
            if self._lost:
                raise self._lost

    def _keep(self) -> None:
        while not self._ending.wait(RENEW_SECONDS):
            try:
                self._renew()
            except LeaseLost as lost:
                with self._changed:
                    self._lost = lost
                    self._changed.notify_all()
                return
            except StorageError as error:
                self._say(
                    f"the lease could not be renewed, nothing is committed until it is: {error.problems[0].message}"
                )

    def _renew(self) -> None:
        if _boottime() - self._renewed < EXPIRED_SECONDS:
            begun = _boottime()
            self._write("held")
            if _boottime() - self._renewed < EXPIRED_SECONDS:
                self._mark_renewed(begun)
                return
        if _newest_epoch(self._bucket) > self._epoch or not self._claim(self._epoch + 1):
            raise LeaseLost(
                Problem(
                    "LM1310",
                    f"the lease of {self._bucket.url} expired and another driver took it",
                    help="run the same command again: it resumes from what is committed",
                )
            )

    def _claim(self, epoch: int) -> bool:
        begun = _boottime()
        won = self._claim_strong(epoch) if self._store == "strong" else self._claim_weak(epoch)
        crash.point("lease.claimed")
        if won:
            self._mark_renewed(begun)
        return won

    def _claim_strong(self, epoch: int) -> bool:
        self._name(epoch, uuid.UUID(int=0))
        try:
            self._write("held", if_absent=True)
        except PreconditionFailed:
            if not self._is_mine():
                return False
        return self._stands(epoch)

    def _claim_weak(self, epoch: int) -> bool:
        self._name(epoch, uuid.uuid4())
        begun = _boottime()
        self._write("candidate")
        if _boottime() - begun > 1:
            self._bucket.delete(self._key)
            return False
        time.sleep(3)
        if not self._stands(epoch):
            return False
        self._write("held")
        return True

    def _stands(self, epoch: int) -> bool:
        """Whether this claim is the winner among all leases that can be seen; if not, it is withdrawn."""
        mine = self._bucket.head(self._key)
        for other in self._others():
            newer = other.epoch > epoch
            held = other.state == "held" and other.is_live(self._bucket)
            earlier = mine is not None and (other.info.modified, other.info.key) < (mine.modified, mine.key)
            candidate = other.state == "candidate" and other.is_live(self._bucket) and earlier
            if newer or held or candidate or mine is None:
                self._bucket.delete(self._key)
                return False
        return True

    def _rival(self) -> Seen | None:
        live = [seen for seen in self._others() if seen.is_live(self._bucket)]
        return max(live, key=lambda seen: (seen.epoch, seen.state == "held"), default=None)

    def _others(self) -> list[Seen]:
        """The leases of the newest two epochs, without this driver's own."""
        infos = _leases(self._bucket)
        newest = max((_epoch(info.key) for info in infos), default=0)
        seen = (self._read(info) for info in infos if _epoch(info.key) >= newest - 1)
        return [lease for lease in seen if lease is not None and lease.token != self._token]

    def _read(self, info: ObjectInfo) -> Seen | None:
        try:
            body: dict[str, Any] = json.loads(self._bucket.get(info.key))
        except NotFound:  # withdrawn since it was listed
            return None
        return Seen(info, _epoch(info.key), Holder(**body["holder"]), body["token"], body["state"])

    def _is_mine(self) -> bool:
        """After a lost reply the store refuses our own retry, although our lease is what it holds."""
        info = self._bucket.head(self._key)
        seen = self._read(info) if info else None
        return seen is not None and seen.token == self._token

    def _name(self, epoch: int, tail: uuid.UUID) -> None:
        self._epoch = epoch
        # Version 8 of a UUID is the one whose bits are the user's own (RFC 9562): 48 bits of epoch, then the tail.
        number = (epoch << 80) | (tail.int & ((1 << 80) - 1))
        self._key = f"leases/{uuid.UUID(int=number & ~(0xF << 76) | (8 << 76))}.json"

    def _write(self, state: State, *, if_absent: bool = False) -> None:
        body = {
            "schema_version": SCHEMA_VERSION,
            "state": state,
            "token": self._token,
            "holder": asdict(self._holder),
        }
        self._bucket.put(self._key, json.dumps(body).encode(), if_absent=if_absent)

    def _mark_renewed(self, begun: float) -> None:
        with self._changed:
            self._renewed = begun
            self._changed.notify_all()


def _leases(bucket: Bucket) -> list[ObjectInfo]:
    return [info for info in bucket.list("leases/") if not info.key.startswith("leases/probe-")]


def _newest_epoch(bucket: Bucket) -> int:
    return max((_epoch(info.key) for info in _leases(bucket)), default=0)


def _epoch(key: str) -> int:
    return uuid.UUID(Path(key).stem).int >> 80


def _held(url: str, holder: Holder) -> Problem:
    return Problem(
        "LM1311",
        f"{url} is being driven by {holder}",
        help=f"follow it with `lightmill status {url} --watch`, or stop it first",
    )


def _boottime() -> float:
    """Seconds, counting those that the machine was suspended for."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _started(pid: int) -> int | None:
    """When the process started, in clock ticks since boot (field 22 of proc(5)'s stat), or None if it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, *fields = stat.rpartition(")")[2].split()
    return None if state == "Z" else int(fields[18])
