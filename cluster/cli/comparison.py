"""`lightmill compare`: one picture with prompts down and models across, to choose a model by looking."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from actors.errors import Problem, UsageError
from cluster.cli.app import Options, app, emit, say
from cluster.cli.output import manifest_of
from cluster.words import count

if TYPE_CHECKING:
    from actors.settings import ImageFormat
    from jobs.lineup import Output

FORMATS: "dict[str, ImageFormat]" = {".webp": "webp", ".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg"}


@app.command(epilog="Example: lightmill compare job.yaml --prompts 8 --output models.webp")
def compare(
    what: Annotated[
        list[str], typer.Argument(metavar="JOB.yaml | OUT...", help="A job file, or outputs of one table.")
    ],
    prompts: Annotated[int, typer.Option(min=1, max=100, help="So many of the first prompts.")] = 4,
    output: Annotated[Path, typer.Option(help="The picture: .webp, .png or .jpeg.")] = Path("compare.webp"),
    as_json: Annotated[bool, typer.Option("--json", help="As JSON on standard output.")] = False,
) -> None:
    """Draw one picture: prompts down, models across. Of a job file the images are made first, beside its output."""
    image_format = _format(output)
    with tempfile.TemporaryDirectory(prefix="lightmill-compare-") as folder:
        outputs = [_trial(Path(what[0]), prompts, Path(folder))] if _is_job(what) else [_output(url) for url in what]
        missing, columns, rows = _draw(outputs, prompts, output, image_format)
    if as_json:
        emit({"output": str(output), "prompts": rows, "models": columns, "missing": missing})
    without = f"; {count(missing, 'cell')} without an image" if missing else ""
    say(f"{output}: {count(rows, 'prompt')}, {count(columns, 'model')}{without}")


def _format(output: Path) -> "ImageFormat":
    if output.suffix.lower() not in FORMATS:
        help_ = "name a file that ends in .webp, .png or .jpeg"
        raise UsageError(Problem("LM1103", "--output is no kind of picture", value=str(output), help=help_))
    return FORMATS[output.suffix.lower()]


def _is_job(what: list[str]) -> bool:
    return len(what) == 1 and (Path(what[0]).is_file() or Path(what[0]).suffix.lower() in (".yaml", ".yml"))


def _output(url: str) -> "Output":
    from actors.storage.opening import absolute

    return manifest_of(absolute(url))


def _trial(job: Path, prompts: int, folder: Path) -> "Output":
    """Make the images of the job's first prompts, by an ordinary run into this folder."""
    from cluster.cli.generate import follow
    from cluster.jobfile import load_job
    from jobs.order import RunOrder
    from jobs.trial import trial_of

    spec = trial_of(load_job(job, {}), prompts, folder)
    exit_code = follow(RunOrder(spec=spec, debug=Options.debug), as_json=False)
    if exit_code:
        raise typer.Exit(exit_code)
    return manifest_of(spec.output)


def _draw(outputs: "list[Output]", prompts: int, output: Path, image_format: "ImageFormat") -> tuple[int, int, int]:
    """Write the picture; the cells without an image, the columns and the rows that it has."""
    from actors.contact_sheet import draw
    from actors.encoding import encode
    from actors.settings import EncodingSettings
    from actors.storage.lone_file import write_file
    from jobs.lineup import line_up

    found = line_up(outputs, prompts)
    data = encode(draw(found.sheet), EncodingSettings(format=image_format))
    write_file(output.absolute(), data)
    return found.missing, len(found.sheet.columns), len(found.sheet.rows)
