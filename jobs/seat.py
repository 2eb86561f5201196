"""Seat: one worker as the driver sees it, with the shards that it has in hand."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Seat:
    """One worker, as the driver sees it."""

    lane: int
    ready: bool = False
    announced: dict[int, tuple[str, ...] | None] = field(default_factory=dict)
    """By shard in the making: the images that are on the device or next; None while nothing of it has been there."""
    committing: set[int] = field(default_factory=set)
    """Shards that it has made, until they are committed."""

    @property
    def in_hand(self) -> int:
        return len(self.announced) + len(self.committing)

    @property
    def has_begun(self) -> bool:
        """Whether any shard in the making has been on the device."""
        return any(keys is not None for keys in self.announced.values())
