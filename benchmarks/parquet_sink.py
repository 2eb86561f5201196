"""Images into Parquet: the sink, and pyarrow as it comes, on the same encoded images and columns, in turns.

What is written is thrown away: a disk would be measured otherwise. The sink makes more than the other: the SHA-256 of
the file, and the place of each image in it. So there are two ratios.

- `container`: the sink without that hash, over `pq.write_table` with its defaults. What settings and copies cost.
- `whole`: the sink, over `pq.write_table` with its defaults into a file that is hashed as it is written.

`python -m benchmarks.parquet_sink [WORD ...]` measures those whose names have all the words.
"""

import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from statistics import median
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from actors.encoding import encode
from actors.parquet_sink import ParquetSink, schema
from actors.records import SCHEMA_VERSION, sample_key
from actors.settings import EncodingSettings, ImageFormat
from actors.sinks import EncodedImage
from actors.storage.bucket import always
from actors.storage.outlet import Outlet
from benchmarks.natural import natural_images
from benchmarks.timing import interleaved, print_table, write_results

ROUNDS = 11
"""Of less than a second each."""
BYTES = 200_000_000
"""Of images in a file: three row groups."""
NOTHING = pa.schema([])


class NullUpload:
    """Takes everything, and keeps nothing."""

    def write(self, data: memoryview) -> None: ...

    def complete(self) -> None: ...

    def abort(self) -> None: ...


class NullBucket:
    """Whose uploads go nowhere."""

    def upload(self, key: str, wanted: object) -> NullUpload:
        return NullUpload()


class Unhashed(ParquetSink):
    """All but the SHA-256 of the file."""

    def _take(self, piece: bytes) -> None:
        self._find_images(piece)
        self._bytes += len(piece)


def sink(kind: type[ParquetSink], images: Sequence[EncodedImage]) -> None:
    """As a worker writes them."""
    written = kind(NullBucket(), "bench", always, NOTHING)  # type: ignore[arg-type]
    for number, image in enumerate(images):
        written.append(image, _row(number, image))
    written.finish()


def defaults(images: Sequence[EncodedImage], where: object) -> None:
    """As the documentation of pyarrow has it."""
    rows = [
        {"image": {"bytes": image.data, "path": f"{image.key}.{image.format}"}, **_row(number, image)}
        for number, image in enumerate(images)
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema(NOTHING)), where)


def hashed_defaults(images: Sequence[EncodedImage]) -> None:
    """The same, hashed as it is written."""
    digest = hashlib.sha256()
    defaults(images, Outlet(digest.update))
    digest.hexdigest()


def _row(number: int, image: EncodedImage) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "id": str(number),
        "source_row": number,
        "key": image.key,
        "prompt": f"a photograph of a red cube on a blue table, number {number}",
        "negative_prompt": "",
        "model": "null",
        "seed": number * 7919,
        "width": 1024,
        "height": 1024,
        "num_inference_steps": 25,
        "guidance_scale": 7.5,
        "format": image.format,
    }


def _cases() -> Iterator[tuple[str, list[EncodedImage]]]:
    """Those that the command line names; all where it names none."""
    kinds: dict[str, tuple[ImageFormat, Callable[[], list[bytes]]]] = {
        "webp, 512 px": ("webp", partial(_encoded, "webp", 512)),
        "webp, 1024 px": ("webp", partial(_encoded, "webp", 1024)),
        "png, 1024 px": ("png", partial(_encoded, "png", 1024)),
        "incompressible, 1.5 MB": ("png", lambda: [os.urandom(1_500_000)]),
    }
    for label, (name, make) in kinds.items():
        if set(sys.argv[1:]) <= set(label.replace(",", "").split()):
            yield label, _different(make(), name)


def _encoded(name: ImageFormat, size: int) -> list[bytes]:
    return [encode(image, EncodingSettings(format=name), None) for image in natural_images(size, 4)]


def _different(images: list[bytes], name: ImageFormat) -> list[EncodedImage]:
    """As many as make `BYTES`, of which no two are equal after their headers: a dictionary would find out, and
    statistics would compare them to the end."""
    encoded, size = list[EncodedImage](), 0
    while size < BYTES:
        data = images[len(encoded) % len(images)]
        data = b"".join((data[:64], os.urandom(64), data[128:]))
        size += len(data)
        encoded.append(EncodedImage(sample_key(len(encoded), 0, 0), name, data, "0" * 64, b""))
    return encoded


def measure(images: Sequence[EncodedImage]) -> dict[str, float]:
    """GB/s of each, and the two ratios, each the median of those of the rounds."""
    candidates: dict[str, Callable[[], None]] = {
        "defaults": lambda: defaults(images, "/dev/null"),
        "container alone": lambda: sink(Unhashed, images),
        "defaults, hashed": lambda: hashed_defaults(images),
        "sink": lambda: sink(ParquetSink, images),
    }
    seconds = interleaved(candidates, ROUNDS)
    size = sum(len(image.data) for image in images)

    def ratio(other: str, own: str) -> float:
        return median(theirs / ours for theirs, ours in zip(seconds[other], seconds[own], strict=True))

    rates = {f"{name}, GB/s": size / median(rounds) / 1e9 for name, rounds in seconds.items()}
    return {**rates, "container": ratio("defaults", "container alone"), "whole": ratio("defaults, hashed", "sink")}


def main() -> None:
    """Measure, print, write."""
    rows = [{"images": name, "number": len(images), **measure(images)} for name, images in _cases()]
    print_table(rows)
    write_results("parquet_sink", rows, by=["images"])


if __name__ == "__main__":
    main()
