"""What writing a dataset costs beside encoding: a model that takes no time, through ShardWriter, to a folder and to S3.

`python -m benchmarks.data_path [folder|s3]`. Everything runs on the same cores in turns, and ratios are of medians:

- `folder`: images/s of encode + tar + hashes + metadata, over those of a plain pool of threads of the same encoder.
- `s3`: the same to a server on loopback (rclone, which shares the cores), over those of the slower of encoding alone
  and uploading alone: what would be reached if the two overlapped without a loss.
"""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, get_args

import pyarrow as pa

from actors import metadata
from actors.encoding import encode
from actors.records import SCHEMA_VERSION, Shard, sample_key
from actors.settings import EncodingSettings, ImageFormat
from actors.storage.bucket import Bucket
from actors.storage.opening import open_bucket
from actors.writer import ShardWriter
from benchmarks.natural import Pixels, natural_images, null_model
from benchmarks.timing import interleaved, print_table, write_results

CORES = len(os.sched_getaffinity(0))
DIFFERENT = 4
ROUNDS = 5
IMAGES = {"webp": 120, "png": 400, "jpeg": 1000}
"""Of 512 pixels in a round: a second or two. Of 1024, a quarter as many."""


def write_shard(bucket: Bucket, images: list[Pixels], count: int, settings: EncodingSettings) -> None:
    """A shard as a worker writes it."""
    shard = Shard(0, 0, 0, count)
    with (
        ThreadPoolExecutor(CORES) as pool,
        ShardWriter(bucket, shard, "bench", sink="webdataset", encoding=settings, executor=pool) as writer,
    ):
        for number, pixels in enumerate(null_model(images, count)):
            writer.add(_row(number, pixels), pixels)
        rows, files = writer.finish()
    data = metadata.metadata_file(rows, pa.schema([]), shard=shard, attempt="bench", files=files)
    bucket.put(metadata.key(shard), data)


def encode_alone(images: list[Pixels], count: int, settings: EncodingSettings) -> None:
    """The same images, and nothing done with them."""
    with ThreadPoolExecutor(CORES) as pool:
        for _ in pool.map(partial(encode, settings=settings), null_model(images, count)):
            pass


def upload_alone(bucket: Bucket, encoded: list[bytes], count: int) -> None:
    """The same bytes, already encoded, through the same kind of upload."""
    with bucket.upload("images/upload-alone.tar") as upload:
        for number in range(count):
            upload.write(encoded[number % len(encoded)])
        upload.complete()


def _row(number: int, pixels: Pixels) -> dict[str, Any]:
    height, width, _ = pixels.shape
    return {
        "schema_version": SCHEMA_VERSION,
        "id": str(number),
        "source_row": number,
        "key": sample_key(number, 0, 0),
        "status": "ok",
        "prompt": f"a photograph of a red cube on a blue table, number {number}",
        "model": "null",
        "seed": number * 7919,
        "width": width,
        "height": height,
        "num_inference_steps": 25,
        "guidance_scale": 7.5,
    }


def _cases() -> Iterator[tuple[int, ImageFormat, list[Pixels], int]]:
    for size in (512, 1024):
        images = natural_images(size, DIFFERENT)
        for name in get_args(ImageFormat):
            yield size, name, images, IMAGES[name] * 512**2 // size**2


def _in_turns(count: int, candidates: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Images a second of each."""
    return {name: count / median(seconds) for name, seconds in interleaved(candidates, ROUNDS).items()}


def to_folder() -> Iterator[dict[str, Any]]:
    """Against encoding alone."""
    for size, name, images, count in _cases():
        settings = EncodingSettings(format=name)
        with tempfile.TemporaryDirectory() as folder:
            candidates = {
                "encode alone": partial(encode_alone, images, count, settings),
                "lightmill": partial(write_shard, open_bucket(folder), images, count, settings),
            }
            rate = _in_turns(count, candidates)
        yield {"to": "folder", "format": name, "size": size, **rate, "ratio": rate["lightmill"] / rate["encode alone"]}


def to_s3() -> Iterator[dict[str, Any]]:
    """Against the slower of encoding alone and uploading alone."""
    with _loopback_bucket() as bucket:
        for size, name, images, count in _cases():
            settings = EncodingSettings(format=name)
            encoded = [encode(image, settings) for image in images]
            candidates = {
                "encode alone": partial(encode_alone, images, count, settings),
                "upload alone": partial(upload_alone, bucket, encoded, count),
                "lightmill": partial(write_shard, bucket, images, count, settings),
            }
            rate = _in_turns(count, candidates)
            ideal = min(rate["encode alone"], rate["upload alone"])
            yield {"to": "s3", "format": name, "size": size, **rate, "ratio": rate["lightmill"] / ideal}


@contextmanager
def _loopback_bucket() -> Iterator[Bucket]:
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    from servers.rclone import rclone_server

    with rclone_server() as server:
        os.environ.update(server.environment(server.endpoint))
        yield open_bucket(f"s3://{server.create_bucket()}/data")


def main() -> None:
    """Measure, print, write."""
    targets = {"folder": to_folder, "s3": to_s3}
    rows = []
    for name in sys.argv[1:] or targets:
        found = list(targets[name]())
        print_table(found)
        print()
        rows += found
    write_results("data_path", rows)


if __name__ == "__main__":
    main()
