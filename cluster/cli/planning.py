"""`lightmill plan`: what a job would come to, and everything wrong with it, before a GPU is paid for."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from actors.errors import InputError
from cluster.cli.app import emit, show, tell
from cluster.cli.flags import job_command
from cluster.words import count, size

if TYPE_CHECKING:
    from jobs.check_report import CheckReport, SizeGroup
    from jobs.forecast import Forecast, LaneForecast
    from jobs.spec import JobSpec

LISTED_SIZES = 10


@job_command(epilog="Example: lightmill plan job.yaml --check all")
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
        emit(found.to_dict())
    else:
        tell(f"{label:<12}{text}" for label, text in (*_facts(found, spec), *_rows(found.report)))
    named = {problem.code for problem in found.refusals}
    show([*found.refusals, *found.notes, *(problem for problem in found.report.problems if problem.code not in named)])
    if found.refusals:
        raise typer.Exit(InputError.exit_code)


def _facts(found: "Forecast", spec: "JobSpec") -> Iterator[tuple[str, str]]:
    yield "prompts", f"{spec.prompts}: {count(found.rows, 'row')}"
    for lane in found.lanes:
        rows = "no row names it" if lane.rows == 0 else "the rows that name it"
        rows = rows if lane.rows is None else count(lane.rows, "row")
        task = "" if lane.task == "text-to-image" else f"{lane.task}, "
        place = "model" if lane.stage is None else f"stage {lane.stage}"
        yield place, f"{lane.model}, {task}{_parameters(lane)}: {rows}"
        yield "licence", f"{lane.license}; tier {lane.tier}"
        if lane.shortcuts:
            yield "shortcuts", ", ".join(f"{name} {_short(value)}" for name, value in lane.shortcuts.items())
        if lane.negative_prompt:
            yield "negative", lane.negative_prompt
    yield "images", f"{found.images:,} in {count(found.shards, 'shard')}"
    yield "output", f"{spec.output}: about {size(found.bytes)} in {count(found.objects, 'object')}"
    if found.committed is not None:
        there = found.committed == found.shards
        rest = "nothing is left to make" if there else "`lightmill run` makes the others"
        yield "there", f"{found.committed:,} of {count(found.shards, 'shard')}: {rest}"


def _rows(report: "CheckReport") -> Iterator[tuple[str, str]]:
    filtered = f", {report.filtered_rows:,} are filtered" if report.filtered_rows else ""
    checked = f"{report.checked_rows:,} of {count(report.rows, 'row')}; {report.bad_rows:,} cannot be made"
    yield "checked", checked + filtered
    for group in report.sizes[:LISTED_SIZES]:
        if own := _parameters(group):
            yield "batches of", f"{own}: {count(group.rows, 'row')}"
    if others := report.other_sizes + sum(group.rows for group in report.sizes[LISTED_SIZES:]):
        yield "batches of", f"other kinds: {count(others, 'row')}"
    if report.repeated_rows:
        yield "duplicates", f"{count(report.repeated_rows, 'row')} with the prompt and overrides of an earlier row"
    for column, parameter in report.unused_parameters.items():
        use = f"--override {parameter}" + ("" if column == parameter else f" --column {parameter}={column}")
        yield "not used", f'column "{column}" looks like {parameter}; {use} would use it'


def _short(value: Any) -> str:  # noqa: ANN401
    """`deepcache, interval 3` of a cache; anything else as the job file has it."""
    if not isinstance(value, Mapping):
        return str(value)
    return ", ".join([str(value["kind"]), *(f"{name} {one}" for name, one in value.items() if name != "kind")])


def _parameters(of: "LaneForecast | SizeGroup") -> str:
    """What is known of them: nothing of rows that leave all to the model, no steps where the pipeline has its own."""
    sides = [f"{name} {pixels}" for name, pixels in (("width", of.width), ("height", of.height)) if pixels]
    words = [f"{of.width}x{of.height}"] if len(sides) == 2 else sides
    if of.num_inference_steps:
        words.append(count(of.num_inference_steps, "step"))
    if of.guidance_scale is not None:
        words.append(f"guidance {of.guidance_scale:g}")
    return ", ".join(words)
