"""`lightmill plan`: what a job would come to, and everything wrong with it, before a GPU is paid for."""

import json
import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from actors.errors import InputError
from cluster.cli.app import show
from cluster.cli.flags import job_command

if TYPE_CHECKING:
    from jobs.check_report import SizeGroup
    from jobs.forecast import Forecast
    from jobs.spec import JobSpec


@job_command(epilog="lightmill plan job.yaml --check all")
def plan(
    spec: "JobSpec",
    check: Annotated[
        Literal["auto", "all", "sample", "none"],
        typer.Option(help="Rows to check; auto: all up to a million, a sample above."),
    ] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="As JSON on standard output.")] = False,
) -> None:
    """Say what a job would make, and every problem found, without making anything."""
    from jobs.forecast import forecast

    found = forecast(spec, check)
    if as_json:
        sys.stdout.write(json.dumps(found.to_dict(), default=str) + "\n")
    else:
        _print(found, spec)
    named = {problem.code for problem in found.refusals}
    show((*found.refusals, *(problem for problem in found.report.problems if problem.code not in named)))
    if found.refusals:
        raise typer.Exit(InputError.exit_code)


def _print(found: "Forecast", spec: "JobSpec") -> None:
    report = found.report
    facts = Table(show_header=False, box=None, pad_edge=False)
    facts.add_row("prompts", f"{spec.prompts}: {found.rows:,} rows")
    for lane in found.lanes:
        rows = "the rows that name it" if lane.rows is None else f"{lane.rows:,} rows"
        facts.add_row("model", f"{lane.model}, {lane.width}x{lane.height}: {rows}")
    facts.add_row("images", f"{found.images:,} in {found.shards:,} shards")
    facts.add_row("output", f"{spec.output}: about {_size(found.bytes)} in {found.objects:,} objects")
    checked = f"{report.checked_rows:,} of {report.rows:,} rows; {report.bad_rows:,} cannot be made"
    facts.add_row("checked", checked)
    for group in report.sizes[:10]:
        facts.add_row("batches of", f"{_group(group)}: {group.rows:,} rows")
    if report.repeated_rows:
        facts.add_row("duplicates", f"{report.repeated_rows:,} rows ask for the picture of a row before them")
    for column, parameter in report.unused_parameters.items():
        facts.add_row("not used", f'column "{column}" looks like {parameter}; --override {parameter} would use it')
    Console().print(facts, markup=False, highlight=False)


def _group(group: "SizeGroup") -> str:
    size = f"{group.width or '-'}x{group.height or '-'}"
    steps = f"{group.num_inference_steps or 'default'} steps"
    guidance = "default guidance" if group.guidance_scale is None else f"guidance {group.guidance_scale:g}"
    return f"{'default size' if size == '-x-' else size}, {steps}, {guidance}"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:,.0f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"
