"""Commands that make images: `demo`, `run` and `retry`."""

import json
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from actors.errors import Problem
from cluster.cli.app import app, show, talk
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
AsJson = Annotated[bool, typer.Option("--json", help="The outcome as JSON on standard output.")]


@job_command(epilog="lightmill run --prompts prompts.csv --output out --model tiny")
def run(spec: "JobSpec", address: Address = None, check: Check = "auto", as_json: AsJson = False) -> None:
    """Make every image that the job promises and that is not there yet. Resuming is the same command again."""
    from jobs.order import RunOrder

    _follow(RunOrder(spec=spec, address=address, check=check, commit=_commit()), as_json=as_json)


@app.command()
def retry(
    output: Output,
    only: Annotated[str, typer.Option(help="failed, or the error code of the rows to make again.")] = "failed",
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Make the failed images of an output again, and put their rows in the place of the old ones."""
    from jobs.order import RunOrder

    _, manifest = manifest_of(output)
    spec = manifest.spec.model_copy(update={"output": output})
    _follow(RunOrder(purpose="retry", spec=spec, only=only, address=address, commit=_commit()), as_json=as_json)


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Where the pictures go.")] = Path("demo-output"),
) -> None:
    """Draw a first dataset: a few prompts, a model made on the spot, nothing to download."""
    from cluster.jobfile import load_job
    from jobs.order import RunOrder

    prompts = Path(str(resources.files("cluster"))) / "demo.csv"
    flags = {"name": "demo", "prompts": str(prompts), "output": str(output), "model": "tiny", "sink": "files"}
    _follow(RunOrder(spec=load_job(None, flags), commit=_commit()), as_json=False, leave=False)
    shown = output if output.is_absolute() else Path(output)
    talk().print(
        f"\nimages    {shown}/images/\nmetadata  {shown}/metadata/*.parquet\n\n"
        f"next:\n"
        f"  lightmill verify {shown}\n"
        f"  lightmill run --prompts {prompts} --output my-first-run --model tiny --images-per-prompt 4\n",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _follow(order: "RunOrder", *, as_json: bool, leave: bool = True) -> None:
    """Start the driver, show what it says, and leave with its exit status."""
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
    show(tuple(problems))
    talk().print(summary(end), highlight=False, markup=False, soft_wrap=True)
    if as_json:
        sys.stdout.write(json.dumps({**end, "problems": [problem.to_dict() for problem in problems]}) + "\n")
    if leave or end["exit_code"]:
        raise typer.Exit(end["exit_code"])


def _commit() -> str | None:
    """The commit of the code, where it runs from a checkout."""
    checkout = Path(str(resources.files("cluster"))).parent
    if not (checkout / ".git").exists():
        return None
    found = subprocess.run(["git", "-C", checkout, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or None
