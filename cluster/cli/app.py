"""`lightmill`: its commands, and the one place where an error becomes an exit status."""

import sys

import typer
from rich.console import Console

from actors.errors import LightmillError, Problem

app = typer.Typer(
    name="lightmill",
    help="A table of prompts goes in, a dataset of images comes out, on one machine or on a Ray cluster.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog="Start with `lightmill demo`. Every command takes --help; --debug shows where an error came from.",
)
INTERRUPTED = 130


class Options:
    """What holds for every command."""

    debug = False


def talk() -> Console:
    """Where people are spoken to: standard error, so that standard output carries data alone."""
    return Console(stderr=True)


@app.callback()
def _options(
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
    version: bool = typer.Option(False, "--version", help="Print the version and exit.", is_eager=True),
) -> None:
    Options.debug = debug
    if version:
        from importlib import metadata

        typer.echo(f"lightmill {metadata.version('lightmill')}")
        raise typer.Exit


def main() -> None:
    """The console script."""
    from cluster.cli import generate, inspection, planning  # noqa: F401 - importing them registers their commands

    try:
        app()
    except LightmillError as error:
        show(error.problems)
        if Options.debug:
            raise
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def show(problems: tuple[Problem, ...], most: int = 20) -> None:
    """Print the problems for a person: the first 20, then how many more."""
    console = talk()
    colours = {"error": "red", "warning": "yellow", "note": "cyan"}
    for problem in problems[:most]:
        head, *rest = printable(str(problem)).split("\n")
        kind, _, message = head.partition(": ")
        console.print(kind, style=f"bold {colours[problem.severity]}", end=": ", markup=False, highlight=False)
        console.print(message, style="bold", markup=False, highlight=False, soft_wrap=True)
        for line in rest:
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    if len(problems) > most:
        console.print(f"... and {len(problems) - most:,} more problems")


def printable(text: str) -> str:
    """Without what would steer a terminal: prompts are other people's text."""
    return "".join(character if character.isprintable() or character == "\n" else "�" for character in text)
