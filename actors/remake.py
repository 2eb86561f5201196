"""Remake: images made once more from their rows of the metadata, the way in which a worker made them."""

import dataclasses
import json
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import Any

from actors import machine
from actors.batches import refill
from actors.clock import Clock
from actors.device import Device
from actors.generation import Generation
from actors.ingredients import Ingredient, InputFile, Parent
from actors.input_files import InputFiles
from actors.inputs import InputReader
from actors.models.loading import load_lane
from actors.models.model import ModelInfo
from actors.parents import parent_of
from actors.recipe import LaneRecipe
from actors.records import Batch, ImageRequest, Prompt, Shard
from actors.samples import SampleRows
from actors.storage.bucket import Bucket
from actors.storage.folder import FolderBucket
from actors.tables.references import References
from actors.writer import ShardWriter

Row = Mapping[str, Any]
NAME = "remake"
"""In the place of an attempt and of a worker, whose ids mean nothing here."""
AT_ONCE = 8
"""Batches of which the images are kept until they are compared. The device is idle between one such lot and the next,
and two of them are on it at a time."""


class Remaker:
    """One model in memory, and the way through batches, device and encoders that every image of a shard goes."""

    def __init__(self, recipe: LaneRecipe, output: Bucket) -> None:
        self._recipe = recipe
        self._clock = Clock()
        self._device = Device(lambda: load_lane(recipe), self._clock, recipe.batch_timeout_seconds)
        references = References(recipe.table.uri, recipe.inputs.allow, recipe.inputs.folder)
        self._inputs = InputReader(InputFiles(references, output, recipe.storage), self._device.info)
        self._encoders = ThreadPoolExecutor(machine.processors(), thread_name_prefix="encode")

    @property
    def info(self) -> ModelInfo:
        """What is known of the model."""
        return self._device.info

    def remake(
        self, rows: Sequence[Row], stopping: threading.Event, parents: Mapping[str, Row] = MappingProxyType({})
    ) -> Iterator[tuple[Row, Row, bytes]]:
        """Of each row with an image: the row, the one that it would get now, and the new file, empty where there is
        none. Batches are filled up to the sizes that were recorded. Raises `Stopped` when `stopping` is set.

        `parents` are the rows of the images that these were made of, as they are now, by their keys.

        The images of `AT_ONCE` batches exist at a time, whatever the size of the shard.
        """
        before = {row["key"]: row for row in rows}
        shard = Shard(rows[0]["shard"], self._recipe.lane, 0, 0)
        groups = ((size, self._device.counted(requests)) for size, requests in _by_batch_size(rows, parents))
        batches = [batch for size, requests in groups for batch in refill(requests, size)]
        for start in range(0, len(batches), AT_ONCE):
            for row, data in self._make(shard, batches[start : start + AT_ONCE], stopping):
                yield before[row["key"]], row, data

    def _make(self, shard: Shard, batches: list[Batch], stopping: threading.Event) -> Iterator[tuple[Row, bytes]]:
        with tempfile.TemporaryDirectory(prefix="lightmill-remake-") as folder:
            bucket = FolderBucket(Path(folder))
            with self._writer(bucket, shard) as writer:
                samples = SampleRows(self.info, shard, NAME, NAME, self._recipe.stage)
                generation = Generation(self._recipe, self._device, batches, (), self._inputs, samples, writer)
                for _ in generation.beats(self._clock, lambda: not stopping.is_set()):
                    pass  # nobody needs to know what is on the device
                made, _ = writer.finish()
            for row in made:
                yield row, bucket.get(row["file"]) if row["status"] == "ok" else b""

    def _writer(self, bucket: FolderBucket, shard: Shard) -> ShardWriter:
        encoding = self._recipe.encoding
        return ShardWriter(bucket, shard, NAME, sink="files", encoding=encoding, executor=self._encoders)


def request_of(row: Row, parents: Mapping[str, Row]) -> ImageRequest:
    """What the image of a row was made of. Its seed is as if the table had named it: there is no other to try."""
    recipe = json.loads(row["recipe"] or "{}")
    inputs = recipe.get("inputs", {})
    return ImageRequest(
        prompt=Prompt(source_row=row["source_row"], id=row["id"], text=row["prompt"], seed=row["seed"]),
        image_index=row["image_index"],
        lane=row["lane"],
        negative_prompt=row["negative_prompt"],
        seed=row["seed"],
        seed_rejected=row["seed_rejected"],
        width=row["width"],
        height=row["height"],
        num_inference_steps=row["num_inference_steps"],
        guidance_scale=row["guidance_scale"],
        strength=row["strength"],
        noise_level=recipe.get("noise_level"),
        input_files={name: _ingredient(words, parents) for name, words in inputs.items()},
    )


def _ingredient(words: Mapping[str, str], parents: Mapping[str, Row]) -> Ingredient:
    """What the recipe of a row names. An image of the output must be the one that it was."""
    if "file" in words:
        return InputFile(**words)
    found = parents.get(words["parent"])
    if found is None or found["file"] is None:
        return Parent(key=words["parent"], sha256=words["sha256"])
    return dataclasses.replace(parent_of(found), sha256=words["sha256"])


def _by_batch_size(rows: Sequence[Row], parents: Mapping[str, Row]) -> Iterator[tuple[int, list[ImageRequest]]]:
    ordered = sorted(rows, key=lambda row: (row["batch_size"], row["key"]))
    for size, group in groupby(ordered, key=lambda row: int(row["batch_size"])):
        yield size, [request_of(row, parents) for row in group]
