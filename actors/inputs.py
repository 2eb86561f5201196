"""InputReader: the images that images are made from, read and sized in threads while the device is busy.

A file that cannot be used fails the row that names it, and no other: its batch goes on, filled up to its size.
"""

import dataclasses
import hashlib
import logging
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from actors.encoding import decode_input, measure
from actors.errors import InputError, LightmillError, Problem
from actors.ingredients import Ingredient, InputFile, InputImages, Parent
from actors.input_files import InputFiles
from actors.models.model import ModelInfo
from actors.models.tasks import UPSCALE
from actors.orders import Assignment, Refusal, misfit_size
from actors.records import Batch, ImageRequest
from actors.settings import MAX_SIDE

_log = logging.getLogger(__name__)

THREADS = 4
"""They are faster than a model that makes something of what they read."""

Picture = NDArray[np.uint8] | NDArray[np.float32]


class _Key(NamedTuple):
    """One file, as one request wants it: images of a row, and often of a table, share it."""

    name: str
    file: Ingredient
    width: int
    height: int


class InputReader:
    """Reads for one model. `attach` is for one thread at a time, `measured` for any."""

    def __init__(self, files: InputFiles, info: ModelInfo) -> None:
        self._files = files
        self._info = info
        self._scale = UPSCALE if info.task == "upscale" else 1
        # The sizes of a whole shard are looked at beside the batches of another, which are not to wait for that.
        self._measurers = ThreadPoolExecutor(THREADS, thread_name_prefix="measure")
        self._readers = ThreadPoolExecutor(THREADS, thread_name_prefix="input")
        self._ahead: dict[_Key, Future[tuple[Picture, str]]] = {}

    def measured(self, assignment: Assignment) -> Assignment:
        """The assignment with the sizes of upscaled images, which follow from their inputs and decide the batches.

        Those of later stages have theirs: the rows of their parents tell.
        """
        if self._scale == 1:
            return assignment
        files = dict.fromkeys(request.input_files["image"] for request in assignment.requests)
        futures = {file: self._measurers.submit(self._size, file) for file in files if isinstance(file, InputFile)}
        requests, refused = [], list(assignment.refused)
        for request in assignment.requests:
            file = request.input_files["image"]
            if isinstance(file, Parent):
                requests.append(request)
                continue
            found = futures[file].result()
            if not isinstance(found, Problem):
                width, height = found
                requests.append(dataclasses.replace(request, width=width, height=height))
            elif request.key in assignment.wanted:
                refused.append(Refusal(request.prompt, request.image_index, request.lane, found))
        keys = frozenset(request.key for request in requests)
        return Assignment(tuple(requests), assignment.wanted & keys, tuple(refused))

    def attach(self, batch: Batch, upcoming: Batch | None) -> tuple[Batch, list[tuple[ImageRequest, Problem]]]:
        """The batch with its inputs, and which of its requests have none that can be used.

        Those of `upcoming` are being read from here on. Nothing beyond it is, whatever the size of the shard.
        """
        here = {key: self._ahead.get(key) or self._begin(key) for key in self._keys(batch)}
        self._ahead = {key: here.get(key) or self._begin(key) for key in self._keys(upcoming)}
        ready, failed = [], []
        for request in batch.requests:
            try:
                ready.append(self._with_inputs(request, here))
            except InputError as error:
                failed.append((request, error.problems[0]))
        return Batch(tuple(ready), batch.size), failed

    def _keys(self, batch: Batch | None) -> dict[_Key, None]:
        requests = batch.requests if batch else ()
        return dict.fromkeys(key for request in requests if not request.input_images for key in self._of(request))

    def _of(self, request: ImageRequest) -> list[_Key]:
        size = request.width // self._scale, request.height // self._scale
        return [_Key(name, file, *size) for name, file in request.input_files.items()]

    def _with_inputs(self, request: ImageRequest, read: Mapping[_Key, Future[tuple[Picture, str]]]) -> ImageRequest:
        if request.input_images or not request.input_files:
            return request
        found = {key.name: read[key].result() for key in self._of(request)}
        pictures = {name: picture for name, (picture, _) in found.items()}
        hashes = {name: sha256 for name, (_, sha256) in found.items()}
        return dataclasses.replace(request, input_images=InputImages(**pictures, sha256=hashes))  # type: ignore[arg-type]

    def _begin(self, key: _Key) -> Future[tuple[Picture, str]]:
        return self._readers.submit(self._read, key)

    def _read(self, key: _Key) -> tuple[Picture, str]:
        with _blaming(key.name, key.file):
            data = self._files.read(key.file)
            sha256 = hashlib.sha256(data).hexdigest()
            if key.file.sha256 not in (None, sha256):
                raise InputError(_another(key, sha256))
            if self._scale > 1 and (found := measure(data)) != (key.width, key.height):
                width, height = found
                raise _unusable(key.name, key.file, f"it is {width}x{height}, and was {key.width}x{key.height} before")
            return decode_input(data, key.name, key.width, key.height), sha256

    def _size(self, file: InputFile) -> tuple[int, int] | Problem:
        """Of the image that is made from this one."""
        try:
            with _blaming("image", file):
                width, height = (side * self._scale for side in measure(self._files.read(file)))
        except InputError as error:
            return error.problems[0]
        if max(width, height) > MAX_SIDE:
            message = f"image {file.name}: upscaled it would be {width}x{height}, over {MAX_SIDE} pixels a side"
            return Problem("LM1618", message, value=file.name, help="use a smaller one")
        return misfit_size(width, height, self._info) or (width, height)


def _another(key: _Key, sha256: str) -> Problem:
    message = f"{key.name} {key.file.name} is not what it was: its SHA-256 is {sha256}, should be {key.file.sha256}"
    of_ours = "`lightmill verify` says what is wrong with the output"
    action = of_ours if isinstance(key.file, Parent) else "put the old file back"
    return Problem("LM1617", message, value=key.file.name, help=action)


@contextmanager
def _blaming(name: str, file: Ingredient) -> Iterator[None]:
    """Whatever goes wrong is the fault of this file: nobody can foresee what a stranger's bytes make a library raise.
    What is wrong with the store, or a stop, is told as it is."""
    try:
        yield
    except InputError as error:
        if error.code != "LM1613":
            raise
        raise _unusable(name, file, error.problems[0].message) from error
    except LightmillError:
        raise
    except Exception as error:
        _log.warning("%s %s cannot be used", name, file.name, exc_info=error)
        raise _unusable(name, file, f"{type(error).__name__}: {error}") from error


def _unusable(name: str, file: Ingredient, why: str) -> InputError:
    message = f"{name} {file.name}: {why}"
    return InputError(Problem("LM1618", message, value=file.name, help="mend the file, or name another"))
