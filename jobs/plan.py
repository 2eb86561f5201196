"""Plan: which rows make which shard. Pure arithmetic on counts, so no list of shards is ever stored."""

from bisect import bisect_right
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from itertools import accumulate

from actors.records import Shard


@dataclass(frozen=True, slots=True)
class Plan:
    """The shards of a job: those of lane 0 first, then those of lane 1, and so on.

    `lane_rows` are the rows that each lane makes; a shard holds `rows_per_shard` of them, the last one of a lane
    what is left.
    """

    lane_rows: tuple[int, ...]
    rows_per_shard: int
    images_per_prompt: int
    staged: bool = False
    """Whether each lane makes its images of those of the lane before, row by row, and so shard by shard."""
    _first: tuple[int, ...] = field(init=False, repr=False, compare=False)
    """Of each lane, the index of its first shard; then the number of all shards."""

    def __post_init__(self) -> None:
        counts = (-(-rows // self.rows_per_shard) for rows in self.lane_rows)
        object.__setattr__(self, "_first", tuple(accumulate(counts, initial=0)))

    def lane_shards(self, lane: int) -> range:
        """The indices of one lane's shards."""
        return range(self._first[lane], self._first[lane + 1])

    @property
    def shards(self) -> int:
        """How many shards the job has."""
        return self._first[-1]

    @property
    def rows(self) -> int:
        """Rows, counted once for every lane that makes them."""
        return sum(self.lane_rows)

    @property
    def images(self) -> int:
        """How many images are promised: exactly as many metadata rows there will be."""
        return self.rows * self.images_per_prompt

    def shard(self, index: int) -> Shard:
        """The shard of this index. Raises IndexError when the job has no such shard."""
        if not 0 <= index < self.shards:
            raise IndexError(index)
        lane = bisect_right(self._first, index) - 1
        start = (index - self._first[lane]) * self.rows_per_shard
        return Shard(index, lane, start, min(start + self.rows_per_shard, self.lane_rows[lane]))

    def shard_of(self, lane: int, row: int) -> Shard:
        """The shard of a row, which is counted within its lane."""
        return self.shard(self._first[lane] + row // self.rows_per_shard)

    def parents(self, index: int) -> int | None:
        """The shard of whose images this one's are made; None where they are made of the table alone."""
        return index - self._first[1] if self.staged and index >= self._first[1] else None

    def children(self, index: int) -> int | None:
        """The shard whose images are made of this one's; None where none are."""
        return index + self._first[1] if self.staged and index + self._first[1] < self.shards else None

    def shard_images(self, index: int) -> int:
        """How many images this shard promises."""
        shard = self.shard(index)
        return (shard.stop - shard.start) * self.images_per_prompt

    def images_of(self, shards: Container[object]) -> int:
        """How many images these shards promise together."""
        return sum(self.shard_images(index) for index in range(self.shards) if index in shards)

    def __iter__(self) -> Iterator[Shard]:
        return (self.shard(index) for index in range(self.shards))
