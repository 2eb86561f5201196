"""Head: the Jobs API of a cluster, and the one door to it. Plain HTTP, which is why versions of Ray may differ."""

import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from actors.errors import ClusterError, InputError, Problem
from cluster.address import VARIABLES, Address

TIMEOUT_SECONDS = (10.0, 60.0)
"""To connect, and of silence. Ray's client would wait for ever."""
OVER = frozenset({"SUCCEEDED", "FAILED", "STOPPED"})
OLDEST = (2, 54)
"""Before it, anybody may delete jobs (CVE-2026-27482)."""
TAKEN = "already exists"
HOW_TO_ASK = (
    "export RAY_AUTH_MODE=token, and the cluster's token as RAY_AUTH_TOKEN or in ~/.ray/auth_token "
    "(`ray get-auth-token` on its head)"
)


class IdTaken(Exception):
    """The cluster has a job of this id."""


@dataclass(frozen=True, slots=True)
class SubmittedJob:
    """What a cluster says of a job that was submitted to it."""

    id: str
    state: str
    """Ray's word: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED."""
    metadata: Mapping[str, str]
    submitted_at: datetime | None
    exit_code: int | None
    """Of the driver."""
    message: str
    """Ray's, for a person."""

    @property
    def is_over(self) -> bool:
        return self.state in OVER

    @property
    def output(self) -> str:
        return self.metadata.get("output", "")

    @property
    def name(self) -> str:
        return self.metadata.get("name", "")


class Head:
    """A connection, which is made at once. Every method raises `ClusterError`."""

    def __init__(self, address: Address) -> None:
        self.address = address
        with _explained(address), _without_variables():
            self._client = _client(address)
            self.ray_version: str = self._client.ray_version()
        numbers = tuple(int(number) for number in re.findall(r"\d+", self.ray_version)[:2])
        if numbers < OLDEST:
            oldest = ".".join(map(str, OLDEST))
            message = f"the cluster runs Ray {self.ray_version}, and lightmill needs {oldest} or newer"
            raise ClusterError(Problem("LM1502", message, where=address.url, help="upgrade Ray on the cluster"))

    def submit(
        self,
        id: str,  # noqa: A002
        entrypoint: str,
        folder: Path,
        metadata: Mapping[str, str],
        variables: Mapping[str, str],
    ) -> None:
        """Send the folder, and have the command run in it. Raises `IdTaken` where there is a job of this id."""
        environment: dict[str, Any] = {"working_dir": str(folder), "env_vars": dict(variables)}
        with _explained(self.address):
            self._client.submit_job(
                entrypoint=entrypoint, submission_id=id, runtime_env=environment, metadata=dict(metadata)
            )

    def jobs(self) -> list[SubmittedJob]:
        """Those of ours, the newest last."""
        with _explained(self.address):
            found = [_described(job) for job in self._client.list_jobs() if job.submission_id]
        ours = [job for job in found if "lightmill" in job.metadata]
        return sorted(ours, key=lambda job: job.submitted_at or datetime.min.replace(tzinfo=UTC))

    def job(self, id: str) -> SubmittedJob:  # noqa: A002
        """One job. Raises `InputError` where there is none of this id."""
        with _explained(self.address):
            return _described(self._client.get_job_info(id))

    def log(self, id: str) -> str:  # noqa: A002
        """All that the driver wrote to its standard output and error, and what Ray has to say beside that."""
        with _explained(self.address):
            text: str = self._client.get_job_logs(id)
            return text

    def stop(self, id: str) -> None:  # noqa: A002
        """Have Ray send it SIGTERM, and SIGKILL when its patience is over."""
        with _explained(self.address):
            self._client.stop_job(id)

    def forget(self, id: str) -> None:  # noqa: A002
        """Take a job that is over off its list."""
        with _explained(self.address):
            self._client.delete_job(id)


def _client(address: Address) -> Any:  # noqa: ANN401 - Ray comes without types
    from ray.job_submission import JobSubmissionClient

    class Client(JobSubmissionClient):  # type: ignore[misc]
        """Ray's own, which gives up on a server that says nothing."""

        def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:  # noqa: ANN401
            return super()._do_request(method, endpoint, **{"timeout": TIMEOUT_SECONDS, **options})

        def ray_version(self) -> str:
            """Of the cluster; `get_version` is that of its HTTP interface."""
            return str(self._do_request("GET", "/api/version").json()["ray_version"])

    for name in ("job.sdk", "dashboard_sdk"):  # which tell of every upload
        logging.getLogger(f"ray.dashboard.modules.{name}").setLevel(logging.WARNING)
    logging.getLogger("ray._private.runtime_env.packaging").setLevel(logging.ERROR)
    return Client(address.url, headers=dict(address.headers), verify=address.ca or True)


def _described(job: Any) -> SubmittedJob:  # noqa: ANN401
    return SubmittedJob(
        id=job.submission_id,
        state=str(getattr(job.status, "value", job.status)),
        metadata=job.metadata or {},
        submitted_at=datetime.fromtimestamp(job.start_time / 1000, UTC) if job.start_time else None,
        exit_code=job.driver_exit_code,
        message=job.message or "",
    )


@contextmanager
def _without_variables() -> Iterator[None]:
    """Ray would take their word over the address that it is given."""
    kept = {name: os.environ.pop(name) for name in VARIABLES if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)


@contextmanager
def _explained(address: Address) -> Iterator[None]:
    from ray.exceptions import AuthenticationError
    from requests.exceptions import RequestException, SSLError

    try:
        yield
    except AuthenticationError as error:
        has = "takes none without a token" if str(error).startswith("Authentication required") else "refuses the token"
        problem = Problem("LM1501", f"{address.url} {has}", help=HOW_TO_ASK)
        raise ClusterError(problem) from error
    except (RequestException, OSError) as error:
        cause = error.__context__ or error  # Ray says only that it failed
        advice = "is the cluster up, and the tunnel to its head (`ray dashboard`, `kubectl port-forward`)?"
        if SSLError in (type(error), type(cause)):
            advice = "name its certificate authority with --ca; https:// needs a server that speaks TLS"
        raise ClusterError(_unreachable(address, cause, advice)) from error
    except (RuntimeError, ValueError, KeyError) as error:
        raise _answered(address, str(error)) from error


def _answered(address: Address, said: str) -> Exception:
    last = next((line for line in reversed(said.strip().splitlines()) if line.strip()), said).strip()
    if TAKEN in said:
        return IdTaken(last)
    if "status code 404" in said:
        advice = "`lightmill list` has them all; or name the output of the job"
        return InputError(Problem("LM1509", "the cluster knows no such job", address.url, last[:300], advice))
    return ClusterError(
        Problem("LM1508", f"{address.url} did not do as it was asked", value=last[:300], help="see Ray's dashboard")
    )


def _unreachable(address: Address, error: BaseException, advice: str) -> Problem:
    return Problem("LM1501", f"no Ray cluster answers at {address.url}", value=_innermost(error)[:300], help=advice)


def _innermost(error: BaseException) -> str:
    return str(error.args[-1] if error.args else error).strip().partition("\n")[0]
