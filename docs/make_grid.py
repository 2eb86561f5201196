"""Draw the README's picture grid from an output: `python docs/make_grid.py demo-output docs/images/demo.webp`.

It reads the output as anybody can: the metadata says in which file an image lies, and at which bytes.
"""

import io
import sys
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
from PIL import Image

COLUMNS, ROWS = 8, 3
SIDE = 104
GAP = 8
BACKGROUND = (255, 255, 255)


def images(output: Path, count: int) -> list[Image.Image]:
    """The first images of an output, in the order of its prompts."""
    rows = ds.dataset(output / "metadata", format="parquet").to_table(filter=ds.field("status") == "ok")
    found = rows.sort_by("key").slice(0, count).to_pylist()
    return [Image.open(io.BytesIO(_bytes(output, row))) for row in found]


def grid(pictures: list[Image.Image]) -> Image.Image:
    """The pictures side by side, all of one size."""
    step = SIDE + GAP
    sheet = Image.new("RGB", (COLUMNS * step - GAP, ROWS * step - GAP), BACKGROUND)
    for number, picture in enumerate(pictures):
        row, column = divmod(number, COLUMNS)
        sheet.paste(picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC), (column * step, row * step))
    return sheet


def _bytes(output: Path, row: dict[str, Any]) -> bytes:
    with (output / row["file"]).open("rb") as file:
        file.seek(row["file_offset"])
        return file.read(row["file_length"])


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    grid(images(source, COLUMNS * ROWS)).save(target, quality=88, method=6)
