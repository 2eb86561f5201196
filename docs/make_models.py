"""Write the tables of models.md from the cards: `python docs/make_models.py`."""

from pathlib import Path
from typing import get_args

from actors.models.card import ModelCard
from actors.models.kinds import Tier
from actors.models.registry import list_cards

PAGE = Path(__file__).with_name("models.md")
BEGIN, END = "<!-- from the cards: docs/make_models.py -->\n", "<!-- until here -->\n"
COMMERCIAL = {"allowed": "yes", "conditional": "with conditions", "forbidden": "no"}


def tables() -> str:
    """A table for each tier, in the order in which the tiers are told."""
    return "\n".join(_table(tier, list_cards(tier)) for tier in get_args(Tier))


def with_tables(page: str) -> str:
    """The page, with what stands between the marks written anew."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{tables()}\n{END}{after}"


def _table(tier: str, cards: list[ModelCard]) -> str:
    head = "| name | use | size | parameters | licence | commercial use |\n|---|---|---|---|---|---|\n"
    return f"### {tier}\n\n{head}" + "".join(f"{_row(card)}\n" for card in cards)


def _row(card: ModelCard) -> str:
    width, height = card.sizes[0]
    parameters = f"{card.parameters:g} B" if card.parameters else "-"
    license_ = f"[{card.license.id}]({card.license.link})"
    cells = (f"`{card.name}`", card.use, f"{width}x{height}", parameters, license_, COMMERCIAL[card.license.commercial])
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
