"""RowSet: some rows of a table, one bit for each row that the table has."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


class RowSet:
    """Of a table of so many rows; empty at first."""

    def __init__(self, rows: int) -> None:
        self._words = np.zeros(rows // 64 + 1, np.uint64)

    def __len__(self) -> int:
        return int(np.bitwise_count(self._words).sum(dtype=np.int64))

    def add(self, rows: Rows) -> None:
        """Rows may be there already, or be named twice."""
        np.bitwise_or.at(self._words, rows >> 6, _bits(rows))

    def has(self, rows: Rows) -> NDArray[np.bool_]:
        """Of each of these rows whether it is one of the set."""
        found: NDArray[np.bool_] = (self._words[rows >> 6] & _bits(rows)) != 0
        return found

    def places(self) -> Callable[[Rows], Rows]:
        """What tells of each row how many rows of the set, as it is now, come before it."""
        counts = np.bitwise_count(self._words)
        before = np.cumsum(counts, dtype=np.int64) - counts
        return lambda rows: before[rows >> 6] + np.bitwise_count(self._words[rows >> 6] & (_bits(rows) - np.uint64(1)))


def _bits(rows: Rows) -> NDArray[np.uint64]:
    return np.uint64(1) << (rows & 63).astype(np.uint64)
