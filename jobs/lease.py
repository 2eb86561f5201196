"""Lease: one driver at a time on an output, agreed upon through the store alone.

A driver claims an epoch (see `jobs.claims`) and renews the claim every 10 s by writing it again. Its age is the store's
`LastModified` against the store's own clock, never two machines' clocks. After 30 s without renewal it may be taken
over, by claiming the next epoch. How a claim is decided depends on the store's class (see `probe`):

- strong: all candidates of an epoch write the same name with `If-None-Match`; one write succeeds.
- otherwise: each candidate writes a name of its own, waits 3 s and lists: a lease that is held, or a candidate with a
  lower (LastModified, key), wins. A candidate whose write took over 1 s withdraws, since it may have become visible
  after the others had looked.

On any store a claim withdraws that turns out to be older than another: the name it created may have been swept up by
`clean`. A driver that could not renew for 15 s commits nothing until it has; one that could not for 25 s has lost the
lease, and goes on only if it gets the next epoch *and* nobody held one in between, since then the output may have
changed.
"""

import threading
import uuid
from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import Self

from actors import crash
from actors.errors import PreconditionFailed, Problem, RunError, Stopped, StorageError
from actors.storage.bucket import Bucket, Wanted, always
from actors.storage.probe import StoreClass
from jobs import claims
from jobs.claims import NOBODY, Claim, Claims, State
from jobs.holder import Holder
from jobs.timer import Timer

RENEW_SECONDS = 10.0
LATE_SECONDS = 15.0
EXPIRED_SECONDS = 25.0
"""By the holder's own clock: less than the TTL, for the time that a write may be on its way."""
SLOW_SECONDS = 1.0
CANDIDACY_SECONDS = 3.0
LOOK_SECONDS = 1.0
"""Between two looks at a lease that may be abandoned."""
POLL_SECONDS = 0.1
REAL_TIME = Timer()


class LeaseHeld(RunError):
    """Somebody else drives this output now."""


class LeaseLost(RunError):
    """Somebody else has driven this output since: what this driver knows of it may be out of date."""


class Lease:
    """The right to change an output. As a context manager it is taken, kept renewed, and given back."""

    def __init__(
        self,
        bucket: Bucket,
        store: StoreClass,
        purpose: str,
        say: Callable[[str], None] = lambda _: None,
        timer: Timer = REAL_TIME,
        wanted: Wanted = always,
    ) -> None:
        """What is no longer `wanted` is not waited for: `acquire` and `require` then raise `Stopped` instead."""
        self._bucket = bucket
        self._store = store
        self._say = say
        self._timer = timer
        self._wanted = wanted
        self._holder = Holder.here(purpose)
        self.token = uuid.uuid4().hex
        """This driver's own, in all its claims."""
        self.is_in_doubt = False
        """Whether a commit may still be on its way: then the lease is not given back, and ends by itself."""
        self._epoch = 0
        self._key = ""
        self._renewed = float("-inf")
        self._lost: LeaseLost | None = None
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
        if self._lost is None and not (self.is_in_doubt or isinstance(error, StorageError)):
            try:
                self.release()
            except StorageError as refusal:
                said = refusal.problems[0].message
                self._say(f"the lease could not be given back; it ends by itself in {claims.TTL_SECONDS:.0f} s: {said}")

    def acquire(self) -> None:
        """Take the lease, waiting for one that seems to be abandoned. Raises `LeaseHeld` when it is not."""
        watched: Claim | None = None
        while True:
            found = Claims.read(self._bucket).others(self.token)
            rival = max(found.live, key=lambda claim: (claim.epoch, claim.state == "held"), default=None)
            if rival is None:
                if self._claim(found.newest + 1):
                    return
                self._pause(LOOK_SECONDS)
                continue
            renewed = watched is not None and _word(rival) > _word(watched)
            if rival.state == "held" and (rival.holder.is_near or renewed):
                raise LeaseHeld(_held(self._bucket.url, rival.holder))
            if watched is None:
                self._say(
                    f"waiting up to {claims.TTL_SECONDS:.0f} s for the lease of {rival.holder}, in case it is gone"
                )
            watched = rival
            self._pause(LOOK_SECONDS)

    @property
    def is_fresh(self) -> bool:
        """Whether this driver may change the output at this moment."""
        return self._lost is None and self._timer.now() - self._renewed < LATE_SECONDS

    def require(self) -> None:
        """Return only while this driver may change the output. Waits for a renewal that is late; raises `LeaseLost`."""
        while not self.is_fresh:
            if self._lost is not None:
                raise self._lost
            self._pause(POLL_SECONDS)

    def renew(self) -> None:
        """Write the claim again; one that has expired is claimed anew. Raises `LeaseLost`, and then for ever."""
        begun = self._timer.now()
        if not self._is_expired():
            self._write(self._key, "held")
        if not self._is_expired() and not self._is_superseded():
            self._renewed = begun
            return
        if self._is_superseded() or not self._claim(Claims.read(self._bucket).newest + 1):
            self._lost = LeaseLost(_expired(self._bucket.url))
            raise self._lost

    def release(self) -> None:
        """Give the lease back."""
        self._write(self._key, "released")

    def _pause(self, seconds: float) -> None:
        if not self._wanted():
            raise Stopped(Problem("LM1610", "stopped on request while waiting for the lease"))
        self._timer.sleep(seconds)

    def _keep(self) -> None:
        try:
            while not self._ending.wait(RENEW_SECONDS):
                try:
                    self.renew()
                except StorageError as error:
                    message = error.problems[0].message
                    self._say(f"the lease could not be renewed, nothing is committed until it is: {message}")
        except LeaseLost:
            return
        finally:
            if not self._ending.is_set() and self._lost is None:  # or `require` would wait for ever
                self._lost = LeaseLost(_expired(self._bucket.url))

    def _is_expired(self) -> bool:
        return self._timer.now() - self._renewed >= EXPIRED_SECONDS

    def _is_superseded(self) -> bool:
        """Whether anybody else has driven since: then what this driver knows may be out of date."""
        others = Claims.read(self._bucket, since=self._epoch).others(self.token).all
        return any(claim.epoch >= self._epoch and claim.state in ("held", "released") for claim in others)

    def _claim(self, epoch: int) -> bool:
        begun = self._timer.now()
        strong = self._store == "strong"
        key = claims.claim_key(epoch, NOBODY if strong else uuid.uuid4())
        if not (self._create(key) if strong else self._stand_for(key)):
            return False
        if not self._stands(epoch, key):
            self._write(key, "withdrawn")
            return False
        if not strong:
            self._write(key, "held")
        crash.point("lease.claimed")
        self._epoch, self._key, self._renewed = epoch, key, begun
        return True

    def _create(self, key: str) -> bool:
        try:
            self._write(key, "held", if_absent=True)
        except PreconditionFailed:
            # After a lost reply the store refuses our own retry, although our claim is what it holds.
            info = self._bucket.head(key)
            found = claims.read_claim(self._bucket, info) if info else None
            return found is not None and found.token == self.token
        return True

    def _stand_for(self, key: str) -> bool:
        begun = self._timer.now()
        self._write(key, "candidate")
        seconds = self._timer.now() - begun
        if seconds > SLOW_SECONDS:
            self._write(key, "withdrawn")
            self._say(f"the store took {seconds:.1f} s to write a claim to the lease, which is too slow: trying again")
            return False
        self._timer.sleep(CANDIDACY_SECONDS)
        return True

    def _stands(self, epoch: int, key: str) -> bool:
        """Whether this claim is the winner among all that can be seen."""
        found = Claims.read(self._bucket)
        mine = next((claim for claim in found.all if claim.info.key == key), None)
        others = found.others(self.token)
        return (
            mine is not None
            and not any(other.epoch > epoch and other.state != "withdrawn" for other in others.all)
            and not any(other.state == "held" or _order(other) < _order(mine) for other in others.live)
        )

    def _write(self, key: str, state: State, *, if_absent: bool = False) -> None:
        self._bucket.put(key, claims.claim_body(state, self.token, self._holder), if_absent=if_absent)


def _word(claim: Claim) -> tuple[int, datetime]:
    """What grows with every renewal, and is less for an older claim that outlives a newer one. Not the etag: some
    stores make it from the bytes, which stay the same."""
    return claim.epoch, claim.info.modified


def _order(claim: Claim) -> tuple[object, ...]:
    """Both times come from one listing: the answer to a HEAD has whole seconds, that to a LIST may have thousandths."""
    return claim.info.modified, claim.info.key


def _held(url: str, holder: Holder) -> Problem:
    return Problem(
        "LM1311",
        f"{url} is being driven by {holder}",
        help=f"follow it with `lightmill status {url} --watch`, or stop it first",
    )


def _expired(url: str) -> Problem:
    return Problem(
        "LM1310",
        f"the lease of {url} expired, and could not be taken back: another driver has it, or the store was too slow",
        help="run the same command again: it resumes from what is committed",
    )
