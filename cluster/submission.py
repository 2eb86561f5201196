"""Submission: a job sent to a cluster, under a name that nobody can give twice."""

import hashlib
import re
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib import metadata, resources
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from actors.errors import InputError, NotFound, Problem, RunError, StorageError, UsageError
from actors.records import SCHEMA_VERSION
from actors.settings import Settings
from actors.storage.bucket import Bucket
from actors.storage.opening import FIRST_MEETING_SECONDS, absolute, open_bucket
from cluster.address import is_secret
from cluster.baggage import at_the_store, bring, is_here, refuse_what_stays
from cluster.head import Head, IdTaken, SubmittedJob
from jobs import status
from jobs.examination import examine
from jobs.order import CheckMode, Order, RunOrder
from jobs.parcel import pack
from jobs.spec import JobSpec

Say = Callable[[str], None]

KEY = "submission.json"
ENTRYPOINT = "exec sh driver.sh"
STOP_SECONDS = {"RAY_JOB_STOP_WAIT_TIME_S": "120"}
"""Ray's supervisor kills a job that it stops after 3 s: too soon for a batch to end."""
ID = re.compile(r"lightmill-[A-Za-z0-9_.-]+-[0-9a-f]{8}-[A-Za-z0-9_.-]+")
PASSWORD_IN_A_URL = re.compile(r"://[^/@\s]*:[^/@\s]*@")


class AlreadySubmitted(RunError):
    """The job is under way on this cluster, under this id."""

    def __init__(self, problem: Problem, id: str) -> None:  # noqa: A002 - as everybody calls it
        super().__init__(problem)
        self.id = id


class Submission(Settings):
    """`submission.json`: what was sent where, for whoever finds nothing else in the output yet."""

    schema_version: int = SCHEMA_VERSION
    id: str
    name: str
    output: str
    address: str
    submitted_at: datetime

    @classmethod
    def latest(cls, bucket: Bucket) -> Self | None:
        """The last one of an output whose driver has not written a word yet, by the store's own clock."""
        sent, said = bucket.head(KEY), bucket.head(status.KEY)
        if sent is None or (said is not None and said.modified > sent.modified):
            return None
        try:
            return cls.model_validate_json(bucket.get(KEY))
        except (NotFound, ValidationError):
            return None


def submit(
    order: RunOrder,
    head: Head,
    say: Say,
    *,
    variables: Mapping[str, str] | None = None,
) -> Submission:
    """Send the job to the cluster, which goes on with it by itself. Nothing is kept on this machine.

    `variables` are set in the environment of the driver and its workers, for all to read.

    Raises `AlreadySubmitted`; `InputError` for what a cluster could not read, `UsageError` for variables that look
    like secrets; `ClusterError` and `StorageError` as either refuses.
    """
    refuse_at_home(order.spec, variables or {})
    spec = at_the_store(order.spec.model_copy(update={"output": absolute(order.spec.output)}))
    job = next_id(spec, head.jobs(), head.address.url)
    if is_here(spec.prompts):
        _refuse_bad(spec, order.check)
    with tempfile.TemporaryDirectory(prefix="lightmill-parcel-") as folder:
        parcel = Path(folder)
        pack(parcel, spec)
        spec = bring(spec, parcel, say)
        send(head, job, order.model_copy(update={"spec": spec}), parcel, variables or {})
    sent = Submission(
        id=job, name=spec.name, output=spec.output, address=head.address.url, submitted_at=datetime.now(UTC)
    )
    _leave_word(sent, spec, say)
    return sent


def send(head: Head, job: str, order: RunOrder, parcel: Path, variables: Mapping[str, str]) -> None:
    """Send a parcel with its order under this id. Raises `AlreadySubmitted` where the cluster has the id."""
    spec = order.spec
    submitted = order.model_copy(update={"address": "auto", "submission": job})
    write_start(parcel, submitted)
    about = {"lightmill": metadata.version("lightmill"), "name": spec.name, "output": spec.output}
    try:
        head.submit(job, ENTRYPOINT, parcel, about, {**STOP_SECONDS, **variables})
    except IdTaken:
        raise AlreadySubmitted(_taken(spec, job, head.address.url), job) from None


def write_start(parcel: Path, order: Order) -> None:
    """What the driver is to do, and how it is started."""
    (parcel / "order.json").write_text(order.model_dump_json())
    (parcel / "driver.sh").write_text(resources.files("cluster").joinpath("driver.sh").read_text())


def next_id(spec: JobSpec, jobs: list[SubmittedJob], url: str) -> str:
    """The id of the next attempt, which whoever submits the job at the same moment arrives at as well: of those, the
    cluster takes one."""
    stem = f"lightmill-{spec.name}-{hashlib.sha256(spec.output.encode()).hexdigest()[:8]}"
    running = [job for job in jobs if job.output == spec.output and not job.is_over]
    if running:
        raise AlreadySubmitted(_taken(spec, running[-1].id, url), running[-1].id)
    attempts = [int(tail) for job in jobs if (tail := job.id.removeprefix(f"{stem}-")).isdecimal()]
    return f"{stem}-{max(attempts, default=0) + 1}"


def refuse_at_home(spec: JobSpec, variables: Mapping[str, str]) -> None:
    """Raise `InputError` or `UsageError` for what needs no cluster to be seen."""
    refuse_secrets(variables)
    refuse_what_stays(spec)


def refuse_secrets(variables: Mapping[str, str]) -> None:
    """Raise `UsageError` for variables that look like secrets: whoever may see the job may see them, and so may
    whoever reads the logs of a node."""
    secret = [name for name, value in variables.items() if is_secret(name) or PASSWORD_IN_A_URL.search(value)]
    if secret:
        raise UsageError(
            *(
                Problem(
                    "LM1507",
                    f"{name} looks like a secret, and what travels with a job can be read by all who see the cluster",
                    where="--env",
                    help="set it where the workers run: an instance role, a Kubernetes secret, a file on the nodes",
                )
                for name in secret
            )
        )


def find_job(head: Head, id: str) -> SubmittedJob:  # noqa: A002 - as everybody calls it
    """A job of ours by its id. Raises `InputError`."""
    job = head.job(id)
    if not job.output:
        message = "this job was not submitted by lightmill"
        raise InputError(Problem("LM1509", message, where=head.address.url, value=id, help="`lightmill list`"))
    return job


def _leave_word(sent: Submission, spec: JobSpec, say: Say) -> None:
    bucket = open_bucket(spec.output, spec.storage, patience_seconds=FIRST_MEETING_SECONDS)
    try:
        bucket.put(KEY, sent.model_dump_json(indent=1).encode())
    except StorageError as error:  # the cluster may well be allowed to write what this machine is not
        say(f"until its driver writes, this job is found by its id alone, {sent.id}: {error.problems[0].message}")


def _refuse_bad(spec: JobSpec, check: CheckMode) -> None:
    """Before anything is uploaded. Of a table on the store the driver says it, which is nearer to it."""
    examined = examine(spec, check, None)
    if examined.refusals:
        raise InputError(*examined.refusals)


def _taken(spec: JobSpec, id: str, url: str) -> Problem:  # noqa: A002
    return Problem(
        "LM1504",
        f"the job is submitted already: {id} on {url}",
        where=spec.output,
        help=f"`lightmill attach {spec.output}` follows it, `lightmill stop {spec.output}` ends it",
    )
