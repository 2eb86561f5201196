"""`lightmill submit`: a job sent to a cluster, which goes on with it when this machine is closed."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from actors.errors import ClusterError, Problem, StorageError, UsageError
from cluster.checkout import commit
from cluster.cli.app import Options, emit, say, show, tell
from cluster.cli.connection import Connection, Found, takes_connection
from cluster.cli.flags import job_command
from cluster.cli.following import follow
from cluster.cli.kubernetes import Image, Namespace, Secret, place_of

if TYPE_CHECKING:
    from cluster.head import Head
    from jobs.judgement import Judged
    from jobs.spec import JobSpec

_HELP = "Set NAME=VALUE for the driver and its workers, for all to read. Repeatable."


@job_command(epilog="Example: lightmill submit job.yaml --address http://127.0.0.1:8265")
@takes_connection
def submit(  # noqa: PLR0913 - flags
    spec: "JobSpec",
    *,
    connection: Connection,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it to its end, and exit as it does.")] = False,
    preflight: Annotated[
        bool, typer.Option("--preflight", help="Send nothing: only ask whether the cluster can do it.")
    ] = False,
    env: Annotated[list[str] | None, typer.Option("--env", help=_HELP)] = None,
    check: Annotated[
        Literal["auto", "all", "sample", "none"],
        typer.Option(help="Rows checked beforehand; auto: all up to a million, a sample above."),
    ] = "auto",
    frozen: Annotated[bool, typer.Option("--frozen", help="Refuse models whose revision is not a commit.")] = False,
    render: Annotated[
        bool,
        typer.Option(
            "--render", help="Send nothing: write a RayJob of Kubernetes that runs it.", rich_help_panel="Kubernetes"
        ),
    ] = False,
    image: Image = None,
    secret: Secret = None,
    namespace: Namespace = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON on standard output.")] = False,
) -> None:
    """Send the job to a Ray cluster and leave it there. Resuming is the same command again."""
    from actors.storage.opening import open_bucket
    from cluster import submission
    from cluster.kubernetes import one_run
    from jobs.order import RunOrder

    if render:
        _refuse_beside_render(address=connection.address, wait=wait, preflight=preflight, env=env, json=as_json)
        tell(one_run.render(spec, place_of(image, secret, namespace), _run_flags(check, frozen=frozen)).splitlines())
        return
    variables = dict(_pair(entry) for entry in env or ())
    submission.refuse_at_home(spec, variables)
    head = connection.head()
    if preflight:
        raise typer.Exit(_ask(spec, head, as_json=as_json))
    order = RunOrder(spec=spec, check=check, frozen=frozen, debug=Options.debug, commit=commit())
    sent = submission.submit(order, head, say, variables=variables)
    about = {"job": sent.id, "name": sent.name, "output": sent.output, "address": sent.address}
    if wait:
        say(f"submitted as {sent.id}")
        found = Found(open_bucket(sent.output, spec.storage), sent.id, head)
        raise typer.Exit(follow(found, about=about, as_json=as_json))
    if as_json:
        emit(about)
    else:
        tell([sent.id])
    say(f"\nnext:\n  lightmill attach {sent.output}\n  lightmill stop {sent.output}")


def _refuse_beside_render(**flags: object) -> None:
    """Nobody is asked or sent anything."""
    if given := [f"--{name}" for name, value in flags.items() if value]:
        said = f"--render sends nothing, so {' and '.join(given)} would be without effect"
        raise UsageError(Problem("LM1103", said, help="leave out the one or the other"))


def _run_flags(check: str, *, frozen: bool) -> list[str]:
    return [*(["--check", check] if check != "auto" else []), *(["--frozen"] if frozen else [])]


def _ask(spec: "JobSpec", head: "Head", *, as_json: bool) -> int:
    """Print the table of a preflight; its exit status."""
    from cluster.preflight import preflight

    judged = preflight(spec, head, say)
    problems = [one.problem for one in judged if one.problem]
    if as_json:
        emit({"address": head.address.url, "findings": [asdict(one) for one in judged]})
    else:
        widths = [max(len(text) for text in column) for column in zip(*map(_cells, judged), strict=True)]
        tell("  ".join(map(str.ljust, _cells(one), widths)).rstrip() for one in judged)
    show(problems)
    errors = [problem for problem in problems if problem.severity == "error"]
    if not errors:
        say("the cluster can do this job")
        return 0
    return StorageError.exit_code if errors[0].code.startswith("LM13") else ClusterError.exit_code


def _cells(one: "Judged") -> tuple[str, ...]:
    return one.verdict, one.check, one.machine, one.found


def _pair(entry: str) -> tuple[str, str]:
    name, separator, value = entry.partition("=")
    if not (name and separator):
        raise UsageError(
            Problem("LM1103", "a variable is NAME=VALUE", where="--env", value=name, help="--env NAME=VALUE")
        )
    return name, value
