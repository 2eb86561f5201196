"""`lightmill models`: the cards that come with lightmill, and what each of them says."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from actors.models.kinds import Task, Tier
from cluster.cli.app import app, emit, say, tell
from cluster.words import count

if TYPE_CHECKING:
    from actors.models.card import ModelCard

AsJson = Annotated[bool, typer.Option("--json", help="As JSON on standard output.")]
WITHOUT_TERMINAL = 1000
"""Columns of a table that goes into a file or a pipe: enough for a line a model."""
WIDTH = 100
"""Columns of a card."""
FIRST = ("name", "title", "use", "tier", "license")
"""What a card begins with when it is shown."""
models = typer.Typer(
    help="The models that lightmill knows by name.",
    epilog="Example: lightmill models --tier clean",
    invoke_without_command=True,
)
app.add_typer(models, name="models")


@models.callback()
def list_models(
    context: typer.Context,
    tier: Annotated[Tier | None, typer.Option(help="What the weights were made to draw.")] = None,
    task: Annotated[Task | None, typer.Option(help="What is made of what.")] = None,
    license: Annotated[str | None, typer.Option(help="Identifier of a licence, such as Apache-2.0.")] = None,  # noqa: A002
    as_json: AsJson = False,
) -> None:
    """List the models that lightmill knows by name. What a card is unsure of, `show` says."""
    if context.invoked_subcommand:
        return
    from actors.models.registry import list_cards

    found = list_cards(tier, task, license)
    if as_json:
        emit({"models": [card.model_dump(mode="json") for card in found]})
    else:
        _print(found)
    say(f"{count(len(found), 'model')}; `lightmill models show NAME` has all that is known of one")


@models.command(epilog="Example: lightmill models show stable-diffusion-2-1")
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name, a hub id, or the path of a card of your own.")],
    as_json: AsJson = False,
) -> None:
    """Show a card: its YAML, from which one of your own can be made."""
    from actors.models.registry import require_card

    card = require_card(name)
    if as_json:
        emit(card.model_dump(mode="json"))
    else:
        tell(_yaml(card).splitlines())


def _print(cards: "Sequence[ModelCard]") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("name", "tier", "licence", "size"):
        table.add_column(title, no_wrap=True)
    table.add_column("use")
    for card in cards:
        width, height = card.sizes[0]
        table.add_row(card.name, card.tier, card.license.id, f"{width}x{height}", card.use)
    Console(width=None if sys.stdout.isatty() else WITHOUT_TERMINAL).print(table, highlight=False, markup=False)


def _yaml(card: "ModelCard") -> str:
    values = card.model_dump(mode="json", exclude_defaults=True)
    return "".join(_field(name, values[name]) for name in (*FIRST, *(name for name in values if name not in FIRST)))


def _field(name: str, value: Any) -> str:  # noqa: ANN401 - what JSON can hold
    """A field in one line where it fits."""
    import yaml

    if isinstance(value, dict | list):
        line = (
            f"{name}: {yaml.safe_dump(value, sort_keys=False, allow_unicode=True, default_flow_style=True, width=1e9)}"
        )
        if len(line) <= WIDTH:
            return line
    # With None, what holds only scalars stays in one line: the sizes, an encoder.
    flow = None if isinstance(value, list) else False
    return yaml.safe_dump({name: value}, sort_keys=False, allow_unicode=True, default_flow_style=flow, width=WIDTH)


@models.command(epilog="Example: lightmill models mirror stable-diffusion-2-1 s3://models/sd-2-1")
def mirror(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name, a hub id, or the path of a folder.")],
    url: Annotated[str, typer.Argument(metavar="URL", help="An s3:// prefix or a folder.")],
    revision: Annotated[str | None, typer.Option(help="Of a hub id: a commit, best.")] = None,
) -> None:
    """Copy a model's files and their hashes to a prefix, from which `mirror:` in a job fetches them.

    What its card takes from elsewhere, such as another VAE, goes along.
    """
    from actors.models.filling import fill_mirror

    files = fill_mirror(name, revision, url)
    say(f"{count(files, 'file')} of {name} in {url}; in a job: `mirror: {url}`")
