"""Watch: a run followed from afar to its end. The store says how far it is, so that neither a broken connection nor a
cluster that is gone matters; the cluster, where it can be asked, says what the store never learns."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from actors.errors import ClusterError, InputError, Problem, RunError, StorageError
from actors.storage.bucket import Bucket
from cluster.follow import OVER, Follower, line, summary
from cluster.head import Head, SubmittedJob
from cluster.journal import Journal
from cluster.words import duration
from jobs.claims import Claims
from jobs.leash import TERMINATED
from jobs.status import DRIVERS, Status

LOOK_SECONDS = 2.0
SILENT_SECONDS = 60.0
"""A driver writes its heartbeat every 5 s, and a store may be away for a while."""
LOST_SECONDS = 180.0
"""Of silence of the driver, with a cluster that cannot be asked."""
LAST_WORD_SECONDS = 20.0
"""For a driver that has written its last heartbeat, to end."""


@dataclass(frozen=True, slots=True)
class End:
    """How a run ended."""

    exit_code: int
    text: str
    problems: tuple[Problem, ...] = ()
    outcome: Mapping[str, Any] = field(default_factory=dict)
    """The driver's last word, where it was heard."""


def read_status(bucket: Bucket) -> Status | None:
    """The last heartbeat. A run that holds the lease and has not written one yet is starting, whatever the last one
    came to."""
    found = Status.load(bucket)
    if found is None or found.state not in OVER or not (claim := found.successor(bucket)):
        return found
    begun = claim.info.modified
    afresh = {"state": "starting", "message": "", "exit_code": None, "submission": "", "driver": claim.token}
    return found.model_copy(update={**afresh, "started_at": begun, "updated_at": begun})


def driving(bucket: Bucket) -> str | None:
    """The token of the driver that is at work on the output."""
    live = [claim for claim in Claims.read(bucket).live if claim.state == "held" and claim.holder.purpose in DRIVERS]
    # One that was frozen may have renewed its own, out of date, the moment it thawed.
    newest = max(live, key=lambda claim: claim.epoch, default=None)
    return newest.token if newest else None


def silence(bucket: Bucket, status: Status) -> float | None:
    """For how many seconds a driver that should have written has not; None where all is well."""
    age = (bucket.now() - status.updated_at).total_seconds()
    return age if status.state not in OVER and age > SILENT_SECONDS else None


def is_of(status: Status, id: str | None, *, asked: bool) -> bool:  # noqa: A002
    """Whether it is the word on this submission, or on any where none is meant. One that found its job finished had
    nothing to write; where no cluster is asked, that is all there is to be seen of it."""
    return id in (None, status.submission) or (status.state == "finished" and not asked)


class Outage:
    """A store may be away for a while, as workers know; who looks at it again and again knows as much."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self.since: float | None = None
        """When it went; None while it is there."""

    @contextmanager
    def minded(self) -> Iterator[None]:
        """Ask the store for something: where it is away, what is left of the block is left out. Raises `StorageError`
        when that has been so for long."""
        try:
            yield
        except StorageError as error:
            now = time.monotonic()
            if self.since is None:
                self.since = now
                self._say(f"{error.problems[0].message}; trying again")
            elif now - self.since > LOST_SECONDS:
                raise
        else:
            self.since = None


class Watch:
    """Of the run of a submission, or else of whichever run there is."""

    def __init__(
        self,
        bucket: Bucket,
        shown: Follower,
        head: Head | None = None,
        id: str | None = None,  # noqa: A002
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        self._bucket = bucket
        self._shown = shown
        self._head = head
        self._id = id
        self._sleep = sleep or time.sleep
        self._journal = Journal(bucket, "driver")
        self._told_silence = False
        self._told_unreachable = False
        self._outage = Outage(shown.say)
        self._over_since: float | None = None

    def until_over(self, *, with_log: bool = False) -> End:
        """Show the run as it goes; how it ended."""
        if with_log:
            self._journal.new_lines()  # of earlier runs, or of what this one has said before
        while True:
            status, silent = self._look(with_log=with_log)
            job = self._job(status)
            if job and job.is_over:
                return self._end_of(job, status)
            if status and status.state in OVER and (job is None or self._has_had_its_time()):
                because = f"\n  because   {status.message}" if status.message else ""
                return End(_exit_code(status), line(status) + because)
            if self._outage.since is None:
                self._mind_silence(silent, job)
            self._sleep(LOOK_SECONDS)

    def _look(self, *, with_log: bool) -> tuple[Status | None, float | None]:
        """Show what the store says; the status, and for how long its driver has been silent."""
        status = silent = None
        with self._outage.minded():
            found = read_status(self._bucket)
            status = found if found and is_of(found, self._id, asked=self._head is not None) else None
            if status:
                self._shown.show(status)
            for entry in self._journal.new_lines() if with_log else ():
                self._shown.say(entry["message"])
            silent = silence(self._bucket, status) if status else None
        return status, silent

    def _job(self, status: Status | None) -> SubmittedJob | None:
        if self._head is None or self._id is None:
            return None
        try:
            return self._head.job(self._id)
        except ClusterError as error:
            if not self._told_unreachable:
                self._shown.say(f"{error.problems[0].message}; following what the store says")
            self._told_unreachable = True
            return None
        except InputError:
            if status is None:
                raise
            return None  # the cluster was made anew since; the store still knows the run

    def _has_had_its_time(self) -> bool:
        now = time.monotonic()
        self._over_since = self._over_since or now
        return now - self._over_since > LAST_WORD_SECONDS

    def _mind_silence(self, silent: float | None, job: SubmittedJob | None) -> None:
        if silent and not self._told_silence:
            self._shown.say(f"no heartbeat for {duration(silent)}: the driver may be gone; the same job resumes")
        self._told_silence = silent is not None
        if silent and silent > LOST_SECONDS and job is None:
            message = f"the driver has been silent for {duration(silent)}, and no cluster says what became of it"
            raise ClusterError(
                Problem("LM1510", message, where=self._bucket.url, help="submit the job again: it resumes")
            )

    def _end_of(self, job: SubmittedJob, status: Status | None) -> End:
        """By the driver's own last word, which is in the cluster's log of it."""
        assert self._head is not None
        try:
            log = self._head.log(job.id)
        except ClusterError:
            log = ""
        end, problems = last_words(log)
        if end:
            return End(int(end["exit_code"]), summary(end), problems, end)
        if status and status.exit_code is not None:
            return End(status.exit_code, line(status))
        if job.state == "STOPPED":
            return End(TERMINATED, "stopped; the same job resumes")
        if job.exit_code is None:
            return End(ClusterError.exit_code, "not finished", (_not_started(job),))
        message = "not finished; what is committed stays, and the same job resumes"
        return End(RunError.exit_code, message, (_died(job, log),))


def last_words(log: str) -> tuple[dict[str, Any], tuple[Problem, ...]]:
    """What the driver said at its end, and every problem that it named, among all else in its log."""
    end: dict[str, Any] = {}
    problems: list[Problem] = []
    for text in log.splitlines():
        match _event(text):
            case {"event": "error", "problems": listed}:
                problems += [Problem(**problem) for problem in listed]
            case {"event": "end"} as found:
                end = found
    return end, tuple(problems)


def _not_started(job: SubmittedJob) -> Problem:
    return Problem(
        "LM1508",
        "the cluster could not start the driver",
        where=job.id,
        value=_last_line(job.message),
        help="`lightmill logs JOB` has what Ray says; `lightmill submit --preflight` looks at its machines",
    )


def _died(job: SubmittedJob, log: str) -> Problem:
    return Problem(
        "LM1614",
        "the driver died without a word",
        where=job.id,
        value=_last_line(log) or f"status {job.exit_code}",
        help="submit the job again: it resumes from what is committed; `lightmill logs JOB` has what it said",
    )


def _event(text: str) -> Any:  # noqa: ANN401 - whatever stands there
    try:
        return json.loads(text) if text.startswith('{"event"') else None
    except ValueError:
        return None


def _exit_code(status: Status) -> int:
    return (
        status.exit_code
        if status.exit_code is not None
        else {"finished": 0, "stopped": TERMINATED}.get(status.state, 1)
    )


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2][:300]
