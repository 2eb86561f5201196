"""Seat: one worker as the driver sees it, with the shards that it has in hand, and how fast it makes them."""

from dataclasses import dataclass, field

from actors.records import Beat, Shard

NEWEST = 0.3
"""Weight of the shard that a worker has just generated in its pace."""


@dataclass(slots=True)
class Making:
    """A shard in the making."""

    shard: Shard
    images: int
    announced: tuple[str, ...] | None = None
    """The images that are on the device or next; None while nothing of it has been there."""
    done: int = 0
    begun: float = 0.0
    heard: float = 0.0
    """When images came off the device last."""

    def beat(self, beat: Beat, now: float) -> None:
        """Its worker has announced a batch, or that none is left."""
        if self.announced is None:
            self.begun = now
        if self.announced is None or beat.done > self.done:
            self.heard = now
        self.announced, self.done = beat.announced, beat.done

    @property
    def is_generated(self) -> bool:
        """Whether all of it has been through the device: what is left is to encode and upload."""
        return self.announced == ()

    @property
    def pace(self) -> float | None:
        """Seconds an image, as far as it has come."""
        return (self.heard - self.begun) / self.done if self.done else None

    def seconds_left(self, pace: float, now: float) -> float:
        """Until it has been through the device, if its worker takes `pace` for an image of which nothing better is
        known. One that is overdue is expected to take as long again as it is."""
        if self.is_generated:
            return 0.0
        if self.announced is None:
            return self.images * pace
        silent = now - self.heard
        return max((self.images - self.done) * (self.pace or pace) - silent, silent)


@dataclass(slots=True)
class Node:
    """One machine, under the id that Ray gave it when it joined."""

    id: str
    address: str
    is_leaving: bool = False
    """It is about to be taken away."""
    until: float | None = None
    """When that is, if anybody knows."""
    has_worked: bool = False
    failures: int = 0
    """Of its workers, in a row: since one of them has made a shard."""
    failed: float = float("-inf")

    def __str__(self) -> str:
        return f"{self.address} ({self.id[:8]})"


@dataclass(slots=True)
class Seat:
    """One worker, as the driver sees it."""

    lane: int
    is_successor: bool = False
    """It was asked for after another one had failed to load the model."""
    ready: bool = False
    making: dict[int, Making] = field(default_factory=dict)
    """By the index of the shard, in the order in which they were handed out."""
    committing: set[int] = field(default_factory=set)
    """Shards that it has made, until they are committed."""
    node: Node | None = None
    """The machine on which it is; None while it has no place."""
    retired: bool = False
    """It gets no more shards, and goes when it has none."""
    pace: float | None = None
    """Seconds an image, over the last shards; None before the first is generated."""

    def beat(self, index: int, beat: Beat, now: float) -> None:
        """The worker has a word on one of its shards."""
        making = self.making[index]
        making.beat(beat, now)
        if making.is_generated and making.pace:
            self.pace = making.pace if self.pace is None else self.pace + NEWEST * (making.pace - self.pace)

    @property
    def in_hand(self) -> int:
        return len(self.making) + len(self.committing)

    @property
    def is_idle(self) -> bool:
        """Whether it could be at work and is not."""
        return self.ready and not self.retired and not self.in_hand

    @property
    def ahead(self) -> int:
        """How many shards its device has still to make."""
        return sum(not making.is_generated for making in self.making.values())

    @property
    def has_begun(self) -> bool:
        """Whether any shard in the making has been on the device."""
        return any(making.announced is not None for making in self.making.values())

    @property
    def announced(self) -> dict[int, tuple[str, ...] | None]:
        """By shard in the making: the images that are on its device or next."""
        return {index: making.announced for index, making in self.making.items()}
