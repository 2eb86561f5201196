"""What writing a dataset costs beside encoding: a model that takes no time, through ShardWriter, to a folder and to S3.

`python -m benchmarks.data_path [folder|s3] [webp|png|jpeg] [512|1024]`, any number of each. Everything runs on the same
cores in turns. `ratio` is the median of those of the rounds, `best` that of the fastest rounds: neighbours may take up
to a half of a virtual core away, for a second or two at a time.

- `folder`: images/s of encode + tar + hashes + metadata, over those of a plain pool of threads of the same encoder.
- `s3`: the same to a server on loopback (rclone), over those of the slower of encoding alone and uploading alone: what
  would be reached if the two overlapped without a loss. The server has a core of its own, as a store has machines of
  its own, and all that is compared has the other cores.
"""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from threading import Lock
from typing import Any, get_args

import pyarrow as pa

from actors import metadata
from actors.encoding import encode
from actors.imprint import ALGORITHMIC, Imprint
from actors.machine import processors
from actors.records import SCHEMA_VERSION, Shard, sample_key
from actors.settings import EncodingSettings, ImageFormat
from actors.storage.bucket import Bucket
from actors.storage.opening import open_bucket
from actors.writer import ShardWriter
from benchmarks.natural import Pixels, natural_images, null_model
from benchmarks.timing import Candidates, interleaved, print_table, write_results
from jobs.bench import IN_HAND

DIFFERENT = 4
ROUNDS = 5
IMAGES = {"webp": 1120, "png": 3200, "jpeg": 6400}
"""Of 512 pixels in a round: four and a half seconds and more, so that its end, when only one shard is left, hardly
counts. Of 1024, a quarter as many; to S3, where one core does all, half as many."""
WARM_UP = 10
"""Times fewer in the round that does not count."""
SHARDS = {"folder": 16, "s3": 8}
"""Of 20 to 50 MB."""


def write_shards(bucket: Bucket, images: list[Pixels], count: int, shards: int, settings: EncodingSettings) -> None:
    """Shards as a worker writes them: one is stored to its end while the next is being encoded."""
    turn = Lock()

    def write(number: int) -> None:
        shard = Shard(number, 0, 0, count // shards)
        with ShardWriter(bucket, shard, "bench", sink="webdataset", encoding=settings, executor=encoders) as writer:
            with turn:
                for row, pixels in enumerate(null_model(images, count // shards)):
                    writer.add(_row(row, pixels), pixels)
            rows, files = writer.finish()
        data = metadata.metadata_file(rows, pa.schema([]), shard=shard, attempt="bench", files=files)
        bucket.put(metadata.key(shard), data)

    with ThreadPoolExecutor(processors()) as encoders, ThreadPoolExecutor(IN_HAND) as turns:
        for _ in turns.map(write, range(shards)):
            pass


def encode_alone(images: list[Pixels], count: int, settings: EncodingSettings) -> None:
    """The same images, and nothing done with them."""
    with ThreadPoolExecutor(processors()) as pool:
        for _ in pool.map(partial(encode, settings=settings, imprint=_imprint(images)), null_model(images, count)):
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
        "digital_source_type": ALGORITHMIC,
        "seed": number * 7919,
        "width": width,
        "height": height,
        "num_inference_steps": 25,
        "guidance_scale": 7.5,
    }


def _imprint(images: list[Pixels]) -> Imprint:
    """What files say of themselves: as long for all of them."""
    return Imprint.of(_row(0, images[0]))


def _cases() -> Iterator[tuple[int, ImageFormat, list[Pixels], int]]:
    """Those that the command line names; all where it names none."""
    words = set(sys.argv[1:])
    sizes = [size for size in (512, 1024) if str(size) in words] or (512, 1024)
    names = [name for name in get_args(ImageFormat) if name in words] or get_args(ImageFormat)
    for size in sizes:
        images = natural_images(size, DIFFERENT)
        for name in names:
            yield size, name, images, IMAGES[name] * 512**2 // size**2


def _in_turns(count: int, candidates: Callable[[int], Candidates]) -> dict[str, float]:
    """Images a second of each, and those of lightmill over those of the slowest of the others."""
    seconds = interleaved(candidates(count), ROUNDS, candidates(count // WARM_UP))
    rates = {name: count / median(rounds) for name, rounds in seconds.items()}
    ours = seconds.pop("lightmill")
    ideal = map(max, zip(*seconds.values(), strict=True))
    ratio = median(best / own for best, own in zip(ideal, ours, strict=True))
    return {**rates, "ratio": ratio, "best": max(map(min, seconds.values())) / min(ours)}


def to_folder() -> Iterator[dict[str, Any]]:
    """Against encoding alone."""
    for size, name, images, count in _cases():
        with tempfile.TemporaryDirectory() as folder:
            candidates = partial(_to_folder, open_bucket(folder), images, EncodingSettings(format=name))
            yield {"to": "folder", "format": name, "size": size, **_in_turns(count, candidates)}


def to_s3() -> Iterator[dict[str, Any]]:
    """Against the slower of encoding alone and uploading alone."""
    with _loopback_bucket() as bucket:
        for size, name, images, number in _cases():
            candidates = partial(_to_s3, bucket, images, EncodingSettings(format=name))
            yield {"to": "s3", "format": name, "size": size, **_in_turns(number // 2, candidates)}


def _to_folder(bucket: Bucket, images: list[Pixels], settings: EncodingSettings, count: int) -> Candidates:
    return {
        "encode alone": partial(encode_alone, images, count, settings),
        "lightmill": partial(write_shards, bucket, images, count, SHARDS["folder"], settings),
    }


def _to_s3(bucket: Bucket, images: list[Pixels], settings: EncodingSettings, count: int) -> Candidates:
    encoded = [encode(image, settings, _imprint(images)) for image in images]
    return {
        "encode alone": partial(encode_alone, images, count, settings),
        "upload alone": partial(upload_alone, bucket, encoded, count),
        "lightmill": partial(write_shards, bucket, images, count, SHARDS["s3"], settings),
    }


@contextmanager
def _loopback_bucket() -> Iterator[Bucket]:
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    from servers.rclone import rclone_server

    everywhere = os.sched_getaffinity(0)
    with ExitStack() as stack:
        stack.callback(os.sched_setaffinity, 0, everywhere)
        os.sched_setaffinity(0, {max(everywhere)})  # which the server inherits
        server = stack.enter_context(rclone_server())
        os.sched_setaffinity(0, everywhere - {max(everywhere)} or everywhere)
        os.environ.update(server.environment(server.endpoint))
        yield open_bucket(f"s3://{server.create_bucket()}/data")


def main() -> None:
    """Measure, print, write."""
    targets = {"folder": to_folder, "s3": to_s3}
    rows = []
    for name in [target for target in targets if target in sys.argv[1:]] or targets:
        found = list(targets[name]())
        print_table(found)
        print()
        rows += found
    write_results("data_path", rows, by=["to", "format", "size"])


if __name__ == "__main__":
    main()
