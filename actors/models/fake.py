"""`fake`: coloured waves that depend on prompt and seed alone, with numpy alone; for dry runs, load tests and drills.

`fake` on its own paints as fast as it can. After a colon come options, separated by commas, that make it slow or bad
on purpose: `fake:pace=0.05,fail=boom` takes 50 ms an image and raises for every prompt with `boom` in it. `FakeOptions`
lists them all.
"""

import dataclasses
import difflib
import functools
import hashlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from actors.errors import InputError, OutOfMemory, Problem
from actors.models.model import Images, ModelInfo, Pixels
from actors.records import Batch, ImageRequest

POOL = 4
"""Pictures that `natural` chooses from, for each size: 12 MiB of them at 1024 px."""
NEVER = 1 << 30

_SINES = np.sin(np.linspace(0, 2 * np.pi, 256, endpoint=False, dtype=np.float32))


@dataclass(frozen=True, slots=True)
class FakeOptions:
    """What may follow `fake:`. The words are looked for in the text of each prompt."""

    pace: float = 0.0
    """Seconds an image takes."""
    load: float = 0.0
    """Seconds until it is loaded."""
    natural: int = 0
    """1: pictures with the statistics of photographs instead, for timing encoders and stores."""
    oom: int = NEVER
    """Batches of more images than this run out of memory."""
    fail: str = ""
    """Prompts with this word raise."""
    kill: str = ""
    """Prompts with this word kill the process, as SIGKILL does."""
    hang: str = ""
    """Prompts with this word never come to an end."""
    blank: str = ""
    """Prompts with this word give a black image."""
    blink: str = ""
    """Prompts with this word give a black image at their first seed, and a good one at the next."""
    nan: str = ""
    """Prompts with this word give an image that is not finite."""
    nsfw: str = ""
    """Prompts with this word are flagged by the safety checker that this model pretends to have."""
    cure: str = ""
    """A file: once it is there, no prompt raises, kills or hangs any more."""
    hurry: str = ""
    """A file: once it is there, the next images take no time, whatever `pace` says."""
    journal: str = ""
    """A file to which each image is added before it is painted, as `key pid`: who made what, and how often."""

    @classmethod
    def parse(cls, model: str) -> "FakeOptions":
        """The options in a model's name. Raises `InputError` (LM1201) where one is unknown or no number."""
        kinds: dict[str, type] = {name: type(getattr(cls(), name)) for name in cls.__slots__}
        found = {}
        for entry in filter(None, model.partition(":")[2].split(",")):
            name, _, value = entry.partition("=")
            if name not in kinds:
                close = difflib.get_close_matches(name, kinds, n=1)
                hint = f"; did you mean {close[0]}?" if close else ""
                raise InputError(_bad_option(model, f'`fake` has no option "{name}"{hint}', f"use {', '.join(kinds)}"))
            try:
                found[name] = kinds[name](value)
            except ValueError as error:
                raise InputError(_bad_option(model, f'"{value}" is not a number', f"use {name}=1")) from error
        return cls(**found)


class FakeModel:
    """Waves of two colours, or a photograph-like picture from a pool. Equal prompts and seeds give equal pictures."""

    def __init__(self, info: ModelInfo, options: FakeOptions) -> None:
        time.sleep(options.load)
        if options.natural:
            _photographs(info.height, info.width)  # seconds at 1024 px, which are of loading and not of the first batch
        self._options = options
        drills_blanks = bool(options.blank or options.blink or options.nan)
        self.info = dataclasses.replace(info, may_be_blank=not drills_blanks)

    def counted(self, requests: Iterable[ImageRequest]) -> tuple[ImageRequest, ...]:
        return tuple(requests)

    def warm_up(self) -> None:
        """The first batch takes no longer than any other."""

    def uncompiled(self) -> AbstractContextManager[object]:
        """Nothing ever is."""
        return nullcontext()

    def launch(self, batch: Batch, ahead: Iterable[ImageRequest] = ()) -> Callable[[], Images]:
        images = self.generate(batch)
        return lambda: images

    def generate(self, batch: Batch) -> Images:
        """All of it, at once."""
        options, requests = self._options, batch.requests
        if options.journal:
            with Path(options.journal).open("a") as journal:
                journal.write("".join(f"{request.key} {os.getpid()}\n" for request in requests))
        if options.pace and not (options.hurry and Path(options.hurry).exists()):
            time.sleep(options.pace * batch.size)
        if batch.size > options.oom:
            raise OutOfMemory(Problem("LM1604", f"no room for {batch.size} images; oom={options.oom}"))
        for request in requests:
            self._drill(request)
        first = requests[0]
        digests = _digests(requests)
        if options.natural:
            pixels = _photographs(first.height, first.width)[digests[:, 0] % POOL]
        else:
            pixels = _waves(digests, first.height, first.width)
        for index, request in enumerate(requests):
            if self._is_blank(request):
                pixels[index] = 0
        texts = [request.prompt.text for request in requests]
        flags = tuple(options.nsfw in text if options.nsfw else None for text in texts)
        return Images(
            pixels=pixels,
            finite=tuple(not (options.nan and options.nan in text) for text in texts),
            nsfw=flags,
            nsfw_score=tuple(None if flag is None else 0.1 if flag else -0.1 for flag in flags),
            prompt_truncated=(0,) * len(requests),
        )

    def _drill(self, request: ImageRequest) -> None:
        options, text = self._options, request.prompt.text
        if options.cure and Path(options.cure).exists():
            return
        if options.kill and options.kill in text:
            os.kill(os.getpid(), signal.SIGKILL)
        if options.hang and options.hang in text:
            threading.Event().wait()
        if options.fail and options.fail in text:
            raise RuntimeError(f"fail={options.fail} is in the prompt")

    def _is_blank(self, request: ImageRequest) -> bool:
        options, text = self._options, request.prompt.text
        first_try = request.seed_rejected is None
        return bool(
            (options.blank and options.blank in text) or (options.blink and options.blink in text and first_try)
        )


def _bad_option(model: str, message: str, action: str) -> Problem:
    return Problem("LM1201", message, value=model, help=action)


def _digests(requests: tuple[ImageRequest, ...]) -> NDArray[np.uint8]:
    """16 random bytes for each image."""
    joined = b"".join(
        hashlib.blake2b(f"{request.seed}\0{request.prompt.text}".encode(), digest_size=16).digest()
        for request in requests
    )
    return np.frombuffer(joined, np.uint8).reshape(len(requests), 16)


def _waves(digests: NDArray[np.uint8], height: int, width: int) -> Pixels:
    """Waves from one colour to another, at an angle and of a length that the digest gives.

    The phase of a pixel is that of its row and that of its column, in 256ths of a turn, so that bytes that wrap
    around add up to it: no sine is computed a pixel.
    """
    part = digests.astype(np.float32) / 255.0
    light, dark = 90 + 165 * part[:, None, :3], 150 * part[:, None, 3:6]
    palettes = ((light + dark) / 2 + (light - dark) / 2 * _SINES[:, None]).astype(np.uint8)
    waves = 768 * (part[:, 6:8] - 0.5)
    across = waves[:, :1] * np.linspace(0, 1, width, dtype=np.float32)
    down = waves[:, 1:] * np.linspace(0, 1, height, dtype=np.float32) + 256 * part[:, 8:9]
    phases = down.astype(np.int32).astype(np.uint8)[:, :, None] + across.astype(np.int32).astype(np.uint8)[:, None, :]
    pixels = np.empty((len(digests), height, width, 3), np.uint8)
    for image, palette, phase in zip(pixels, palettes, phases, strict=True):
        np.take(palette, phase, axis=0, out=image, mode="wrap")
    return pixels


@functools.lru_cache(maxsize=4)
def _photographs(height: int, width: int) -> Pixels:
    """Pictures whose spectrum falls as 1/f, with a little noise: encoders find them as hard as photographs."""
    random = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    frequency[0, 0] = np.inf
    white = np.fft.rfft2(random.standard_normal((POOL, 4, height, width)))
    fields = np.fft.irfft2(white / frequency**1.5, s=(height, width))
    fields /= fields.std(axis=(2, 3), keepdims=True) + 1e-9
    light, tints = fields[:, :1], fields[:, 1:]
    colours = 120 + 50 * light + 12 * tints + 2 * random.standard_normal((POOL, 3, height, width))
    return np.ascontiguousarray(colours.clip(0, 255).astype(np.uint8).transpose(0, 2, 3, 1))
