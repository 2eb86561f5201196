"""Commands about a job that runs elsewhere: `attach`, `logs`, `stop` and `list`."""

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import typer

from actors.errors import ClusterError, InputError
from cluster.cli.app import INTERRUPTED, app, emit, say, show, talk, tell
from cluster.cli.connection import Connection, Found, Where, find, takes_connection
from cluster.cli.output import nothing_here

if TYPE_CHECKING:
    from cluster.head import Head, SubmittedJob
    from cluster.watch import End

AsJson = Annotated[bool, typer.Option("--json", help="As JSON on standard output.")]
LOOK_SECONDS = 2.0


@app.command(epilog="Example: lightmill attach s3://datasets/cats-v1")
@takes_connection
def attach(
    where: Where,
    connection: Connection,
    as_json: AsJson = False,
) -> None:
    """Follow a run to its end, and exit as it does. Ctrl-C leaves it to itself."""
    found = find(where, connection)
    if found.id is None:
        _require_a_job(found)
    raise typer.Exit(follow(found, with_log=True, as_json=as_json))


@app.command(epilog="Example: lightmill logs s3://datasets/cats-v1 --follow")
@takes_connection
def logs(
    where: Where,
    connection: Connection,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run is over.")] = False,
    role: Annotated[str, typer.Option(help="driver, or the begin of a worker's name. Left out: all.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """What driver and workers have written, read from the output. Before there is any, what the cluster has of it."""
    from cluster.journal import Journal
    from cluster.watch import Outage

    found = find(where, connection)
    journal, outage = Journal(found.bucket, role), Outage(say)
    any_yet, last = False, not follow
    while True:
        with outage.minded() if follow else nullcontext():
            for line in journal.new_lines():
                any_yet = True
                _print(line, as_json=as_json)
            if last:
                break
            last = _is_over(found)
        time.sleep(LOOK_SECONDS)  # in which a run that is over puts its last lines
    if not any_yet:
        _print_the_clusters(found)


@app.command(epilog="Example: lightmill stop s3://datasets/cats-v1")
@takes_connection
def stop(
    where: Where,
    connection: Connection,
    as_json: AsJson = False,
) -> None:
    """End a run in an orderly way: what is begun is made and committed, and the same job goes on from there."""
    from cluster.watch import driving
    from jobs.stop import ask_to_stop

    found = find(where, connection)
    token = driving(found.bucket)
    if token is not None:
        ask_to_stop(found.bucket, token)
        say("asked to stop after the batches that run; Ctrl-C does not take that back")
    elif waiting := _waiting(found, connection):
        head, job = waiting
        head.stop(job.id)
        say(f"{job.id} has not begun yet, and is taken back")
        found = Found(found.bucket, job.id, head)
    else:
        say(f"nothing is at work on {found.bucket.url}")
        if as_json:
            emit({"output": found.bucket.url, "stopped": False})
        return
    end = _outcome(found)
    if as_json:
        emit({"output": found.bucket.url, "stopped": True, "exit_code": end.exit_code})
    say(end.text)


@app.command("list", epilog="Example: lightmill list --address http://127.0.0.1:8265")
@takes_connection
def list_(
    connection: Connection,
    output: Annotated[str | None, typer.Argument(metavar="[OUT]", help="Only those of this output.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the jobs that were submitted to a cluster. Of an output alone, `status` asks no cluster."""
    from actors.storage.opening import absolute

    head = connection.head()
    jobs = [job for job in head.jobs() if output is None or job.output == absolute(output)]
    if as_json:
        emit({"address": head.address.url, "jobs": [_about(job) for job in jobs]})
    else:
        tell(_rows(jobs))


def follow(found: Found, *, about: Mapping[str, Any] | None = None, with_log: bool = False, as_json: bool) -> int:
    """Follow a run to its end; its exit status. Ctrl-C detaches."""
    output = found.bucket.url
    try:
        end = _outcome(found, with_log=with_log)
    except KeyboardInterrupt:
        say(f"detached; the run goes on. `lightmill attach {output}` comes back, `lightmill stop {output}` ends it")
        return INTERRUPTED
    show(end.problems)
    say(end.text)
    if as_json:
        outcome = {name: value for name, value in end.outcome.items() if name != "event"}
        listed = [problem.to_dict() for problem in end.problems]
        emit({**(about or {"output": output}), **outcome, "exit_code": end.exit_code, "problems": listed})
    return end.exit_code


def _outcome(found: Found, *, with_log: bool = False) -> "End":
    from cluster.follow import follower
    from cluster.watch import Watch

    with follower(talk()) as shown:
        return Watch(found.bucket, shown, found.head, found.id).until_over(with_log=with_log)


def _require_a_job(found: Found) -> None:
    from cluster.watch import driving, read_status

    if read_status(found.bucket) is None and driving(found.bucket) is None:
        raise InputError(nothing_here(found.bucket.url))


def _is_over(found: Found) -> bool:
    from cluster.follow import OVER
    from cluster.watch import is_of, read_status

    if found.head and found.id and found.head.job(found.id).is_over:
        return True
    status = read_status(found.bucket)
    return status is not None and status.state in OVER and is_of(status, found.id, asked=found.head is not None)


def _waiting(found: Found, connection: Connection) -> "tuple[Head, SubmittedJob] | None":
    """A job of this output that a cluster has, with no driver at work yet."""
    try:
        head = found.head or connection.head()
        jobs = [job for job in head.jobs() if job.output == found.bucket.url and not job.is_over]
    except ClusterError as error:
        say(f"whether a cluster has it waiting cannot be told: {error.problems[0].message}")
        return None
    return (head, jobs[-1]) if jobs else None


def _print(line: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(line) + "\n")
    else:
        head = f"{line['time'][:19].replace('T', ' ')}  {line['log']}  {line['level']}  "
        tell([head + part for text in (line["message"], line.get("traceback", "")) for part in text.splitlines()])
    sys.stdout.flush()


def _print_the_clusters(found: Found) -> None:
    """A driver that could not begin has left nothing in the output."""
    if found.head is None or found.id is None:
        say(f"nothing has been logged at {found.bucket.url}")
        return
    say(f"nothing has been logged at {found.bucket.url} yet; the cluster has this of {found.id}:")
    tell(found.head.log(found.id).splitlines())


def _about(job: "SubmittedJob") -> dict[str, Any]:
    return {
        "id": job.id,
        "state": _state(job),
        "name": job.name,
        "output": job.output,
        "submitted_at": job.submitted_at.isoformat() if job.submitted_at else None,
        "exit_code": job.exit_code,
    }


def _rows(jobs: "list[SubmittedJob]") -> Iterator[str]:
    for job in jobs:
        begun = f"{job.submitted_at:%Y-%m-%d %H:%M:%S}" if job.submitted_at else "-"
        yield f"{job.id}  {_state(job)}  {begun}  {job.output}"


def _state(job: "SubmittedJob") -> str:
    """In the words of `status`, as far as a cluster knows."""
    if job.state == "STOPPED" or job.exit_code in (130, 143):
        return "stopped"
    if job.state == "FAILED" and job.exit_code == 4:
        return "finished"
    return {"PENDING": "waiting", "RUNNING": "running", "SUCCEEDED": "finished"}.get(job.state, "failed")
