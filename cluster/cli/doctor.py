"""`lightmill doctor`: what is wrong with this machine, a store, a cluster or its file, and what to do about it."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from actors.errors import ClusterError, InputError, Problem, RunError, StorageError, UsageError
from cluster.cli.app import app, emit, say, show, tell
from cluster.words import count

if TYPE_CHECKING:
    from actors.settings import StorageSettings
    from cluster.doctor.findings import Finding

AsJson = Annotated[bool, typer.Option("--json", help="As JSON on standard output.")]
FILE = "cluster"
"""What stands before the file of a cluster."""


@app.command(epilog="Example: lightmill doctor s3://datasets/cats-v1 --address HOST:6379")
def doctor(
    subject: Annotated[
        list[str] | None,
        typer.Argument(metavar="[OUT | cluster RAY-CONFIG.YAML]", help="Where a job would go; or a cluster's file."),
    ] = None,
    address: Annotated[str | None, typer.Option(help="Of a running Ray cluster: HOST:PORT.")] = None,
    endpoint_url: Annotated[str | None, typer.Option(help="Of the store, where the environment does not say.")] = None,
    as_json: AsJson = False,
) -> None:
    """Look at this machine, the store at OUT and a cluster; or at the file that a cluster is made from."""
    parts = _parts(subject or [], address, endpoint_url)
    exit_code, document = 0, []
    problems: list[Problem] = []
    for part, (findings, fault) in parts.items():
        facts, found = _sorted(findings)
        document.append({"part": part, "facts": facts, "problems": [problem.to_dict() for problem in found]})
        problems += found
        if not as_json:
            tell([part, *(f"  {fact['name']:<24}{fact['value']}" for fact in facts)])
        if not exit_code and any(problem.severity == "error" for problem in found):
            exit_code = fault
    show(problems)
    if as_json:
        emit({"exit_code": exit_code, "parts": document})
    errors = sum(problem.severity == "error" for problem in problems)
    say(f"{count(errors, 'fault')}" if errors else "no fault")
    raise typer.Exit(exit_code)


Parts = dict[str, tuple[Iterable["Finding"], int]]
"""What is looked at, with the exit status of a fault in it."""


def _parts(subject: list[str], address: str | None, endpoint_url: str | None) -> Parts:
    from cluster.doctor import launcher, machine, machines, store

    match subject:
        case [word, path] if word == FILE and not (address or endpoint_url):
            return {path: (launcher.examine(Path(path)), InputError.exit_code)}
        case [] | [_] if subject != [FILE]:
            parts: Parts = {"this machine": (machine.examine(), RunError.exit_code)}
            for output in subject:
                parts[output] = (store.examine(output, _settings(endpoint_url)), StorageError.exit_code)
            if address and "://" in address:
                action = "HOST:PORT of Ray itself; `lightmill submit JOB --preflight` asks through the Jobs API"
                raise UsageError(Problem("LM1103", "the address is one of the Jobs API", value=address, help=action))
            if address:
                parts[address] = (machines.examine(address), ClusterError.exit_code)
            return parts
    action = "one OUT (a folder of that name: ./cluster), or `cluster` and the path of its file"
    raise UsageError(Problem("LM1103", f"cannot look at {' '.join(subject)}", help=action))


def _settings(endpoint_url: str | None) -> "StorageSettings":
    from actors.settings import StorageSettings

    return StorageSettings(endpoint_url=endpoint_url)


def _sorted(findings: Iterable["Finding"]) -> tuple[list[dict[str, Any]], list[Problem]]:
    """Facts and problems, each in their order."""
    facts: list[dict[str, Any]] = []
    problems: list[Problem] = []
    for finding in findings:
        if isinstance(finding, Problem):
            problems.append(finding)
        else:
            facts.append({"name": finding.name, "value": finding.value})
    return facts, problems
