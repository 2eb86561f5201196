"""Clock: where a worker's seconds go. Each second is counted once, so the causes add up to the time that has passed."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

STAGES = ("text", "denoise", "decode")
CAUSES = ("load", "warm_up", *STAGES, "prompts_wait", "encode_wait", "upload_wait", "other", "tail")
"""What a second can be spent on. Where several go on at once, the first of them is what it counts as: while the device
is busy, nothing is waited for.

==============  ==================================================================================
`load`          imports and weights, once
`warm_up`       what would make the first batch slow is done before it, once
`text`          the device makes embeddings of prompts
`denoise`       the device denoises
`decode`        the device makes pictures of latents
`prompts_wait`  the device waits for its next batch: rows of the prompt table are being read, or the
                driver has not yet taken the word that a batch goes on the device
`encode_wait`   the encoders are behind
`upload_wait`   the store is behind
`other`         a shard is being made, and none of the above: book-keeping
`tail`          there is no shard to make: others have them all, or none has come yet
==============  ==================================================================================
"""

DEVICE = "device"
"""The device is busy; it says afterwards at which stages."""
_HELD = "held"
"""A writer holds back; it says afterwards whether encoders or store were the cause."""
_ORDER = ("load", "warm_up", DEVICE, *STAGES, "prompts_wait", _HELD, "encode_wait", "upload_wait", "other", "tail")


class Clock:
    """Counts from its making on. Any number of threads may say what they do."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._active: Counter[str] = Counter()
        self._seconds = dict.fromkeys(_ORDER, 0.0)
        self._since = self._begun = now()

    @property
    def seconds(self) -> float:
        """Since it was made."""
        return self._now() - self._begun

    def begin(self, cause: str) -> None:
        """From here on `cause` is going on, also if it does already, until it has ended as often as it has begun."""
        self._change(cause, 1)

    def end(self, cause: str) -> None:
        """That has come to its end; any thread may say so."""
        self._change(cause, -1)

    @contextmanager
    def measure(self, cause: str) -> Iterator[None]:
        """While this lasts, `cause` is going on."""
        self.begin(cause)
        try:
            yield
        finally:
            self.end(cause)

    def divide_device(self, stages: Mapping[str, float]) -> None:
        """Something has come off the device, which says in which proportion its time went to the `STAGES`."""
        with self._lock:
            self._accrue()
            self._divide(DEVICE, stages, 1.0)

    @contextmanager
    def held_back(self, waits: Callable[[], Mapping[str, float]]) -> Iterator[None]:
        """While this lasts a writer may hold back. `waits` are its own counts of `encode_wait` and `upload_wait`, which
        tell how the time, as far as the device was idle in it, is divided."""
        before = dict(waits())
        try:
            with self.measure(_HELD):
                yield
        finally:
            spent = {cause: seconds - before[cause] for cause, seconds in waits().items()}
            with self._lock:
                held = self._seconds[_HELD]
                self._divide(_HELD, spent, min(1.0, sum(spent.values()) / held) if held else 0.0)

    def lap(self) -> dict[str, float]:
        """Seconds by cause since the last lap. All laps together are the time since the clock was made; what is on the
        device counts once it has come off it."""
        with self._lock:
            self._accrue()
            if not self._active[DEVICE]:
                self._seconds["denoise"] += self._seconds[DEVICE]
                self._seconds[DEVICE] = 0.0
            self._seconds["other"] += self._seconds[_HELD]
            lap = {cause: self._seconds[cause] for cause in CAUSES}
            self._seconds = {**dict.fromkeys(_ORDER, 0.0), DEVICE: self._seconds[DEVICE]}
        return lap

    def _change(self, cause: str, by: int) -> None:
        with self._lock:
            self._accrue()
            self._active[cause] += by

    def _accrue(self) -> None:
        now = self._now()
        first = next((cause for cause in _ORDER if self._active[cause]), "tail")
        self._seconds[first] += now - self._since
        self._since = now

    def _divide(self, whole: str, parts: Mapping[str, float], share: float) -> None:
        """Count this share of what was counted as `whole` as its parts, and the rest as what there is no name for."""
        seconds, total = self._seconds[whole], sum(parts.values())
        moved = seconds * share if total > 0 else 0.0
        for cause, part in parts.items():
            self._seconds[cause] += moved * part / total if total > 0 else 0.0
        self._seconds["denoise" if whole == DEVICE else "other"] += seconds - moved
        self._seconds[whole] = 0.0
