"""Contact sheet: many pictures on one, in a table with words at its top and its left (with Pillow, for its letters)."""

import textwrap
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from actors.models.model import Pixels

LEAST_SIDE, MOST_SIDE = 224, 512
"""Pixels of a cell: as large as the largest picture, within these, and as the sheet has room for."""
MOST_PIXELS = 16_383
"""Of a sheet's side: what WebP can hold."""
GAP = 12
LABEL_WIDTH = 240
TEXT_SIZE = 16
LINE_HEIGHT = 22
MOST_LINES = 12
"""Of one text: prompts can be pages."""
PAPER, INK, PALE_INK, GREY = (255, 255, 255), (24, 24, 24), (110, 110, 110), (226, 226, 226)


@dataclass(frozen=True, slots=True)
class ContactSheet:
    """What is drawn. Each cell is a picture, or why there is none."""

    columns: Sequence[Sequence[str]]
    """Of each column its heading, in lines; the first is the name."""
    rows: Sequence[str]
    """The text at the left of each row."""
    cells: Sequence[Sequence[Pixels | str]]
    """Row by row."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where things go, in pixels."""

    side: int
    head: int
    """Height of the headings."""

    def cell(self, row: int, column: int) -> tuple[int, int]:
        """Its upper left corner."""
        step = self.side + GAP
        return GAP + LABEL_WIDTH + GAP + column * step, self.head + row * step

    def size(self, rows: int, columns: int) -> tuple[int, int]:
        """Width and height of the whole."""
        return self.cell(rows, columns)


def room(rows: int, columns: int) -> int:
    """The longest side that cells can have in a sheet of so many."""
    wide = MOST_PIXELS - 2 * GAP - LABEL_WIDTH
    high = MOST_PIXELS - 2 * GAP - MOST_LINES * LINE_HEIGHT
    return max(1, min(wide // max(columns, 1) - GAP, high // max(rows, 1) - GAP, MOST_SIDE))


def shrink(pixels: Pixels, side: int) -> Pixels:
    """The picture in its shape, with no side longer than this."""
    return pixels if max(pixels.shape[:2]) <= side else np.asarray(_scaled(pixels, side))


def draw(sheet: ContactSheet) -> Pixels:
    """The sheet as one picture. Pictures keep their shape, and are made larger or smaller to fill a cell."""
    pictures = [cell for row in sheet.cells for cell in row if not isinstance(cell, str)]
    largest = max((max(picture.shape[:2]) for picture in pictures), default=0)
    side = min(max(largest, LEAST_SIDE), room(len(sheet.rows), len(sheet.columns)))
    headings = [_wrap(heading, side) for heading in sheet.columns]
    layout = _Layout(side, 2 * GAP + LINE_HEIGHT * max(map(len, headings), default=0))
    canvas = Image.new("RGB", layout.size(len(sheet.rows), len(sheet.columns)), PAPER)
    pen = ImageDraw.Draw(canvas)
    for column, heading in enumerate(headings):
        left, _ = layout.cell(0, column)
        _write(pen, (left, GAP), heading, INK)
    for row, (label, cells) in enumerate(zip(sheet.rows, sheet.cells, strict=True)):
        _, top = layout.cell(row, 0)
        _write(pen, (GAP, top), _wrap([label], LABEL_WIDTH, side), INK)
        for column, cell in enumerate(cells):
            place = layout.cell(row, column)
            if isinstance(cell, str):
                _blank(pen, place, side, cell)
            else:
                _paste(canvas, place, side, cell)
    return np.asarray(canvas)


def _paste(canvas: Image.Image, place: tuple[int, int], side: int, pixels: Pixels) -> None:
    """In the middle of its cell."""
    picture = _scaled(pixels, side)
    canvas.paste(picture, (place[0] + (side - picture.width) // 2, place[1] + (side - picture.height) // 2))


def _scaled(pixels: Pixels, side: int) -> Image.Image:
    """So that its longer side has this length."""
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return Image.fromarray(np.ascontiguousarray(pixels)).resize(size, Image.Resampling.LANCZOS)


def _blank(pen: ImageDraw.ImageDraw, place: tuple[int, int], side: int, reason: str) -> None:
    left, top = place
    pen.rectangle((left, top, left + side - 1, top + side - 1), fill=GREY)
    _write(pen, (left + GAP, top + GAP), _wrap([reason], side - 2 * GAP, side - 2 * GAP), PALE_INK)


def _write(
    pen: ImageDraw.ImageDraw, place: tuple[int, int], lines: Sequence[str], colour: tuple[int, int, int]
) -> None:
    font = ImageFont.load_default(TEXT_SIZE)
    for number, line in enumerate(lines):
        pen.text((place[0], place[1] + number * LINE_HEIGHT), line, fill=colour, font=font)


def _wrap(paragraphs: Sequence[str], width: int, height: int = MOST_LINES * LINE_HEIGHT) -> list[str]:
    """Lines that are no wider than `width` pixels, and no more of them than fit into `height`."""
    font = ImageFont.load_default(TEXT_SIZE)
    lines = [line for text in paragraphs for line in _fold(_spelled(text), width, font)]
    most = max(1, min(height // LINE_HEIGHT, MOST_LINES))
    return lines if len(lines) <= most else [*lines[: most - 1], lines[most - 1][:-3] + "..."]


def _spelled(text: str) -> str:
    """In the letters that Pillow's own font has, which are those of ASCII: others without their accents, or as `?`."""
    plain = "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
    return " ".join(plain.encode("ascii", "replace").decode().split())


def _fold(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[str]:
    """Words, line by line; words that are wider than a line are cut."""
    characters = max(1, int(width / (font.getlength(text) / len(text)))) if text else 1
    while True:
        lines = textwrap.wrap(text, characters) or [""]
        if characters == 1 or max(font.getlength(line) for line in lines) <= width:
            return lines
        characters -= 1
