"""`lightmill reproduce`: images made again from their rows, and compared with those that are stored."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from actors.errors import Problem, UsageError
from cluster.cli.app import Options, app, emit, say, show, tell
from cluster.cli.output import Output, manifest_of
from cluster.words import count

LISTED = 10
"""Of what differs in the environment of many images."""
SAID_OF = {"identical": "identical bytes", "rounding": "within rounding", "different": "different"}


@app.command(epilog="Example: lightmill reproduce out owl --image-index 1 --save owl.webp")
def reproduce(
    output: Output,
    id: Annotated[  # noqa: A002 - the column's name
        str | None, typer.Argument(metavar="ID", help="Of a row: all its images. Or the key of one image.")
    ] = None,
    image_index: Annotated[int | None, typer.Option(min=0, help="One image of the row, counted from 0.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All images of the output.")] = False,
    sample: Annotated[int | None, typer.Option(min=1, help="With --all: so many of them, always the same.")] = None,
    save: Annotated[Path | None, typer.Option(help="Write the new image to this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON on standard output.")] = False,
) -> None:
    """Make images again with the model, seed and batch size of their rows, and compare. A difference is status 1."""
    from jobs.order import ReproduceOrder

    _refuse_contradictions(
        {"ID": id, "--all": everything or None, "--sample": sample, "--image-index": image_index, "--save": save}
    )
    _, manifest = manifest_of(output)
    order = ReproduceOrder(
        output=output,
        storage=manifest.spec.storage,
        id=id,
        image_index=image_index,
        sample=sample,
        save=str(save.absolute()) if save else None,
        debug=Options.debug,
    )
    raise typer.Exit(_follow(order, as_json=as_json))


def _refuse_contradictions(given: Mapping[str, Any]) -> None:
    """An id, or `--all`; each with the flags that belong to it."""
    if (given["ID"] is None) == (given["--all"] is None):
        message = "either the ID of a row (or the key of an image), or --all"
        raise UsageError(
            Problem("LM1103", message, help="lightmill reproduce OUT ID, or lightmill reproduce OUT --all")
        )
    alien = ("--image-index", "--save") if given["--all"] else ("--sample",)
    for flag in alien:
        if given[flag] is not None:
            belongs = "an ID" if given["--all"] else "--all"
            raise UsageError(Problem("LM1103", f"{flag} goes with {belongs}", help=f"leave {flag} out"))


def _follow(order: Any, *, as_json: bool) -> int:  # noqa: ANN401 - a ReproduceOrder, which takes pydantic to import
    """Start the process that makes the images, show what it says of each, and return its exit status."""
    from cluster.child import Child

    end: dict[str, Any] = {}
    images: list[dict[str, Any]] = []
    problems: list[Problem] = []
    for event in Child(order).events():
        match event:
            case {"event": "say", "text": text}:
                say(text)
            case {"event": "image", "image": image}:
                images.append(image)
                if not as_json:
                    tell(_lines(image, with_environment=order.id is not None))
            case {"event": "error", "problems": listed}:
                problems += [Problem(**problem) for problem in listed]
            case {"event": "end"}:
                end = event
    if "verdicts" in end and order.id is None and not as_json:
        tell(_summary(end))
    show(problems)
    if as_json:
        outcome = {name: value for name, value in end.items() if name != "event"}
        emit({**outcome, "images": images, "problems": [problem.to_dict() for problem in problems]})
    elif end["message"] != "compared":
        say(end["message"])
    exit_code: int = end["exit_code"]
    return exit_code


def _lines(image: Mapping[str, Any], *, with_environment: bool) -> Iterator[str]:
    yield f"{image['key']}  {image['id']}, image {image['image_index']}: {_said(image)}"
    if image["reason"]:
        yield f"  because   {image['reason']}"
    if with_environment:
        for what in image["environment"]:
            yield f"  differs   {_difference(what)}"


def _said(image: Mapping[str, Any]) -> str:
    verdict = SAID_OF[image["verdict"]]
    if image["max_difference"] is None:
        return verdict
    if image["max_difference"] == 0:
        return f"{verdict}: other bytes, and every pixel is the same"
    levels = count(image["max_difference"], "level")
    return f"{verdict}: pixels differ by {levels} of 255 at the most, PSNR {image['psnr']:.1f} dB"


def _summary(end: Mapping[str, Any]) -> Iterator[str]:
    verdicts, bounds = end["verdicts"], end["bounds"]
    counted = f"{verdicts['identical']:,} identical, {verdicts['rounding']:,} within rounding"
    yield f"{count(sum(verdicts.values()), 'image')} made again: {counted}, {verdicts['different']:,} different"
    if end["without_image"]:
        yield f"  skipped   {count(end['without_image'], 'row')} without an image"
    if worst := end["worst"]:
        yield f"  worst     {worst['key']}: {_said(worst)}"
    for what in end["environment"][:LISTED]:
        yield f"  differs   {_difference(what)} ({count(what['images'], 'image')})"
    levels = bounds["max_difference"]
    yield (
        f"  bounds    within rounding is at most {levels['png']} levels (JPEG: {levels['jpeg']}) "
        f"and a PSNR of {bounds['psnr']:g} dB or more"
    )


def _difference(what: Mapping[str, Any]) -> str:
    then, now = (value if value is not None else "unknown" for value in (what["then"], what["now"]))
    return f"{what['name']}: {then} then, {now} now"
