"""`lightmill`: its commands, and the one place where an error becomes an exit status."""

import json
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import typer
from rich.console import Console
from typer.models import CommandInfo

from actors.errors import LightmillError, Problem, UsageError, unexpected
from cluster.words import count, printable

app = typer.Typer(
    name="lightmill",
    help="A table of prompts goes in, a dataset of images comes out, on one machine or on a Ray cluster.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog="Example: lightmill demo",
)
ORDER = (
    *("demo", "run", "plan", "status", "retry", "verify", "clean", "reproduce", "compare"),
    *("submit", "attach", "logs", "stop", "list_", "doctor"),
)
"""Of the commands in `--help`: as one comes to need them."""
UNEXPECTED = 1
INTERRUPTED = 130
MOST_PROBLEMS = 20
COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}
UNREADABLE: Any = typer.BadParameter.__mro__[1]
"""click's UsageError. Typer carries a click of its own, and of its errors this one child alone is public."""


class Options:
    """What holds for every command, wherever on the command line it stands."""

    debug = False
    as_json = False


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        typer.echo(f"lightmill {metadata.version('lightmill')}")
        raise typer.Exit


@app.callback()
def _options(
    debug: bool = typer.Option(False, "--debug", help="Show where an error came from. Goes with every command."),
    version: bool = typer.Option(
        False, "--version", help="Print the version and exit.", is_eager=True, callback=_print_version
    ),
) -> None:
    """Both are seen to elsewhere: `--debug` in `main`, wherever it stands."""


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script."""
    from cluster.cli import (  # noqa: F401 - importing them registers their commands
        comparison,
        doctor,
        following,
        generate,
        inspection,
        models,
        planning,
        reproduction,
        scheduling,
        submitting,
    )

    app.registered_commands.sort(key=_place)
    given = sys.argv[1:] if arguments is None else list(arguments)
    Options.debug, Options.as_json = "--debug" in given, "--json" in given
    sys.exit(_status([word for word in given if word != "--debug"]))


def _place(command: CommandInfo) -> int:
    assert command.callback is not None
    return ORDER.index(command.callback.__name__)


def _status(words: list[str]) -> int:
    """Run a command; how it went, as an exit status."""
    try:
        return app(words, prog_name="lightmill", standalone_mode=False) or 0
    except LightmillError as error:
        return _fail(error.problems, error.exit_code)
    except UNREADABLE as error:
        if not words:
            error.show()  # without arguments: the help
            return UsageError.exit_code
        return _fail([_unreadable(error)], UsageError.exit_code)
    except typer.Abort:  # Ctrl-C
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001  the last resort: a sentence for a person, the rest when asked for
        return _fail([unexpected(error)], UNEXPECTED)


def _fail(problems: Sequence[Problem], exit_code: int) -> int:
    if Options.debug:
        traceback.print_exc()
    show(problems)
    if Options.as_json:
        emit({"exit_code": exit_code, "problems": [problem.to_dict() for problem in problems]})
    return exit_code


def _unreadable(error: Any) -> Problem:  # noqa: ANN401 - see UNREADABLE
    command = error.ctx.command_path if error.ctx else "lightmill"
    said = (
        error.format_message()
        .rstrip(".")
        .replace("Input should be", "it must be")
        .replace("Value error, ", "")
        .partition(", unable")[0]
    )
    return Problem("LM1105", said, help=f"{command} --help")


def emit(document: Mapping[str, Any]) -> None:
    """The one JSON object that a command with `--json` has to say, on standard output."""
    sys.stdout.write(json.dumps({"schema_version": 1, **document}, default=str) + "\n")


def tell(lines: Iterable[str]) -> None:
    """What a command was asked for, as lines of text on standard output."""
    for line in lines:
        sys.stdout.write(printable(line) + "\n")


def talk() -> Console:
    """Where people are spoken to: standard error, so that standard output carries data alone."""
    return Console(stderr=True)


def say(text: str) -> None:
    """Something for a person to read, beside what the command was asked for."""
    for line in text.split("\n"):
        talk().print(printable(line), highlight=False, markup=False, soft_wrap=True)


def show(problems: Sequence[Problem]) -> None:
    """Print the problems for a person: the first 20, then how many more."""
    console = talk()
    for problem in problems[:MOST_PROBLEMS]:
        kind = f"{problem.severity}[{problem.code}]"
        console.print(kind, style=f"bold {COLOURS[problem.severity]}", end=": ", markup=False, highlight=False)
        console.print(printable(problem.message), style="bold", markup=False, highlight=False, soft_wrap=True)
        for label, text in (("-->", problem.where), ("value:", problem.value), ("help:", problem.help)):
            if text:
                console.print(f"  {label} {printable(text)}", markup=False, highlight=False, soft_wrap=True)
    if len(problems) > MOST_PROBLEMS:
        console.print(f"... and {count(len(problems) - MOST_PROBLEMS, 'more problem')}", highlight=False)
