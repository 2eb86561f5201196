"""Commands that make images: `demo`, `run` and `retry`."""

import re
import shlex
import shutil
import sys
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from actors.errors import Problem
from cluster.checkout import commit
from cluster.cli.app import Options, app, emit, say, show, talk
from cluster.cli.flags import job_command
from cluster.cli.output import Output, manifest_of

if TYPE_CHECKING:
    from jobs.order import RunOrder
    from jobs.spec import JobSpec

Address = Annotated[str | None, typer.Option(help="Of a running Ray cluster. Left out: this machine alone.")]
Check = Annotated[
    Literal["auto", "all", "sample", "none"],
    typer.Option(help="Rows checked beforehand; auto: all up to a million, a sample above."),
]
FAILURE = re.compile(r"failed|LM\d{4}")


def _failure(text: str) -> str:
    if not FAILURE.fullmatch(text):
        raise typer.BadParameter(f"{text!r} is neither `failed` nor an error code, as LM1603 is")
    return text


AsJson = Annotated[bool, typer.Option("--json", help="The outcome as JSON on standard output.")]


@job_command(epilog="Example: lightmill run --prompts prompts.csv --output out --model demo")
def run(
    spec: "JobSpec",
    address: Address = None,
    check: Check = "auto",
    frozen: Annotated[bool, typer.Option("--frozen", help="Refuse models whose revision is not a commit.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make every image that the job promises and that is not there yet. Resuming is the same command again."""
    from jobs.order import RunOrder

    order = RunOrder(spec=spec, address=address, check=check, frozen=frozen, debug=Options.debug, commit=commit())
    raise typer.Exit(follow(order, as_json=as_json))


@app.command(epilog="Example: lightmill retry out --only LM1603")
def retry(
    output: Output,
    only: Annotated[
        str, typer.Option(callback=_failure, help="failed, or the error code of the rows to make again.")
    ] = "failed",
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Make the failed images of an output again, and put their rows in the place of the old ones."""
    from jobs.order import RunOrder

    _, manifest = manifest_of(output)
    spec = manifest.spec.model_copy(update={"output": output})
    order = RunOrder(purpose="retry", spec=spec, only=only, address=address, debug=Options.debug, commit=commit())
    raise typer.Exit(follow(order, as_json=as_json))


@app.command(epilog="Example: lightmill demo --output my-first-pictures")
def demo(
    output: Annotated[Path, typer.Option(help="Where the pictures go.")] = Path("demo-output"),
) -> None:
    """Draw a first dataset: a few prompts, a small model that comes with lightmill, nothing to download."""
    from cluster.jobfile import load_job
    from jobs.order import RunOrder

    prompts = Path(str(resources.files("cluster"))) / "demo.csv"
    flags = {"name": "demo", "prompts": str(prompts), "output": str(output), "model": "demo", "sink": "files"}
    exit_code = follow(RunOrder(spec=load_job(None, flags), debug=Options.debug, commit=commit()), as_json=False)
    if exit_code:
        raise typer.Exit(exit_code)
    words, here = _words_for_me(), shlex.quote(str(output))
    say(
        f"\nimages    {output}/images/\nmetadata  {output}/metadata/*.parquet\n\n"
        f"next:\n"
        f"  {words} verify {here}\n"
        f"  {words} run --prompts {shlex.quote(str(prompts))} --output my-first-run --model demo --images-per-prompt 4"
    )


def follow(order: "RunOrder", *, as_json: bool) -> int:
    """Start the driver, show what it says, and return its exit status."""
    from cluster.child import Child
    from cluster.follow import follower, summary
    from jobs.status import Status

    end: dict[str, Any] = {}
    problems: list[Problem] = []
    with follower(talk()) as shown:
        for event in Child(order).events():
            match event:
                case {"event": "say", "text": text}:
                    shown.say(text)
                case {"event": "status", "status": status}:
                    shown.show(Status.model_validate(status))
                case {"event": "error", "problems": listed}:
                    problems += [Problem(**problem) for problem in listed]
                case {"event": "end"}:
                    end = event
    show(problems)
    say(summary(end))
    if as_json:
        outcome = {name: value for name, value in end.items() if name != "event"}
        emit({**outcome, "problems": [problem.to_dict() for problem in problems]})
    exit_code: int = end["exit_code"]
    return exit_code


def _words_for_me() -> str:
    """How this very program is called, so that what is printed can be typed."""
    if shutil.which("lightmill"):
        return "lightmill"
    called = Path(sys.argv[0])
    return shlex.quote(str(called)) if called.name == "lightmill" else f"{shlex.quote(sys.executable)} -m cluster"
