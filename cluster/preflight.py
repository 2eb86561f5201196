"""Preflight: a short job that looks at every machine of a cluster, and what its findings come to for a job."""

import platform
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from actors.errors import ClusterError, Problem
from actors.storage.opening import FIRST_MEETING_SECONDS, absolute, open_bucket
from cluster.baggage import at_the_store, refuse_what_stays
from cluster.head import Head, SubmittedJob
from cluster.submission import ENTRYPOINT, write_start
from cluster.watch import last_words
from jobs.judgement import Judged, judge
from jobs.order import PreflightOrder
from jobs.parcel import pack
from jobs.spec import JobSpec

BEACON = "leases/probe-beacon-"
LOOK_SECONDS = 1.0
PATIENCE_SECONDS = 300.0
"""A head that has just started installs nothing, but its first job takes a while."""


def preflight(spec: JobSpec, head: Head, say: Callable[[str], None]) -> list[Judged]:
    """Ask every machine that is up. Raises `ClusterError` where the cluster cannot even be asked."""
    refuse_what_stays(spec)
    spec = at_the_store(spec.model_copy(update={"output": absolute(spec.output)}))
    job = f"lightmill-preflight-{uuid.uuid4().hex[:12]}"
    with _beacon(spec) as beacon, tempfile.TemporaryDirectory(prefix="lightmill-parcel-") as folder:
        pack(Path(folder), spec)
        write_start(Path(folder), PreflightOrder(spec=spec, beacon=beacon))
        say(f"asking the machines of {head.address.url}")
        head.submit(job, ENTRYPOINT, Path(folder), {}, {})
        machines = _answer(head, job)
    here = {"python": platform.python_version(), "ray": metadata.version("ray")}
    return list(judge(spec, machines, here))


@contextmanager
def _beacon(spec: JobSpec) -> Iterator[str]:
    """An object that the machines have to find: it tells whether they see the same store."""
    bucket = open_bucket(spec.output, spec.storage, patience_seconds=FIRST_MEETING_SECONDS)
    key = f"{BEACON}{uuid.uuid4().hex}"
    bucket.put(key, b"")
    try:
        yield key
    finally:
        bucket.delete(key)


def _answer(head: Head, job: str) -> Sequence[Mapping[str, Any]]:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := head.job(job)).is_over:
        if time.monotonic() > deadline:
            head.stop(job)
            message = f"the cluster has not looked at its machines within {PATIENCE_SECONDS:.0f} s"
            raise ClusterError(Problem("LM1508", message, value=found.message[:300], help="see Ray's dashboard"))
        time.sleep(LOOK_SECONDS)
    end, problems = last_words(head.log(job))
    head.forget(job)
    if problems:
        raise ClusterError(*problems)
    if "machines" not in end:
        raise ClusterError(_unheard(found, head.address.url))
    machines: Sequence[Mapping[str, Any]] = end["machines"]
    return machines


def _unheard(job: SubmittedJob, url: str) -> Problem:
    said = job.message.strip().rpartition("\n")[2][:300]
    help_ = "is lightmill's Python 3.11 or newer there, and `pip install lightmill` on its head?"
    return Problem("LM1508", f"{url} could not run the preflight", value=said, help=help_)
