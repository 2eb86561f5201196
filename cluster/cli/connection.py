"""Flags that say where a cluster is, and OUT | JOB: an output, or the id of a job that a cluster knows."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from actors.errors import ClusterError
from cluster.cli.app import say

if TYPE_CHECKING:
    from actors.storage.bucket import Bucket
    from cluster.head import Head

_CLUSTER = "The cluster"


class ConnectionFlags:
    """Those of every command that may ask a cluster; each is a field of `Connection`."""

    address: Annotated[
        str | None,
        typer.Option(
            help="Of the Jobs API: http://127.0.0.1:8265, where a tunnel ends, or https://HOST. Left out: "
            "RAY_API_SERVER_ADDRESS or RAY_ADDRESS, else that tunnel.",
            rich_help_panel=_CLUSTER,
        ),
    ] = None
    header: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=VALUE, sent with every request. Repeatable; secret ones in RAY_JOB_HEADERS.",
            rich_help_panel=_CLUSTER,
        ),
    ] = None
    ca: Annotated[
        str | None,
        typer.Option(help="Certificates of the authorities behind an https:// address.", rich_help_panel=_CLUSTER),
    ] = None
    insecure_http: Annotated[
        bool,
        typer.Option("--insecure-http", help="Use an open address that asks for no token.", rich_help_panel=_CLUSTER),
    ] = False


@dataclass(frozen=True)
class Connection:
    """What those flags say."""

    address: str | None = None
    header: list[str] | None = None
    ca: str | None = None
    insecure_http: bool = False

    def head(self) -> "Head":
        """The cluster that is named. Raises `ClusterError`, and `UsageError` for an address that is none."""
        from cluster.address import choose_address
        from cluster.head import Head

        headers, insecure = self.header or (), self.insecure_http
        return Head(choose_address(self.address, say, headers=headers, ca=self.ca, insecure=insecure))


def takes_connection(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the flags of a connection in the place of its parameter `connection`."""
    flags = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=getattr(ConnectionFlags, name), annotation=hint)
        for name, hint in ConnectionFlags.__annotations__.items()
    ]
    own = [one for one in inspect.signature(command).parameters.values() if one.name != "connection"]
    parameters = [*(one for one in own if one.kind != one.KEYWORD_ONLY), *flags]
    parameters += [one for one in own if one.kind == one.KEYWORD_ONLY]

    @functools.wraps(command)
    def wrapper(*words: Any, **given: Any) -> None:  # noqa: ANN401
        connection = Connection(**{flag.name: given.pop(flag.name) for flag in flags})
        command(*words, connection=connection, **given)

    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {one.name: one.annotation for one in parameters}
    return wrapper


Where = Annotated[str, typer.Argument(metavar="OUT | JOB", help="The output of a job, or its id on the cluster.")]


@dataclass(frozen=True)
class Found:
    """What OUT | JOB stands for."""

    bucket: "Bucket"
    id: str | None
    """Of the job on the cluster, where that is known."""
    head: "Head | None"


def find(where: str, connection: Connection) -> Found:
    """The output and, where there is one, the job. An output needs no cluster: it is asked where a flag names it, and
    about a job that has not begun also where a variable does. Never at an address that the output names: it would be
    sent the token."""
    from actors.storage.opening import absolute
    from cluster.address import named_by_environment
    from cluster.cli.output import meet
    from cluster.submission import ID, Submission, find_job

    if ID.fullmatch(where):
        head = connection.head()
        job = find_job(head, where)
        return Found(meet(job.output), job.id, head)
    bucket = meet(absolute(where))
    sent = Submission.latest(bucket)
    if connection.address is None and not (sent and named_by_environment()[1]):
        if sent:
            no_word = "it has not begun yet, or found nothing to do"
            say(f"{sent.id}, submitted to {sent.address}, has left no word here: {no_word}; --address asks there")
        return Found(bucket, sent.id if sent else None, None)
    try:
        head = connection.head()
        newest = next((job for job in reversed(head.jobs()) if job.output == bucket.url), None)
    except ClusterError as error:
        say(f"{error.problems[0].message}; the output is read all the same")
        return Found(bucket, sent.id if sent else None, None)
    # Of one that is over the output says more: what came after it, too. Unless it has left no word there.
    if newest is None or (newest.is_over and (sent is None or sent.id != newest.id)):
        return Found(bucket, None, head)
    return Found(bucket, newest.id, head)
