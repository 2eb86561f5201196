"""Readers: many objects of a store read at once, in order, with bounded memory."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

READERS = 16
AT_ONCE = 256
"""Results in memory at the most. A shard's metadata takes about 200 kB."""


def read_all(items: Iterable[T], read: Callable[[T], R], *, readers: int = READERS) -> Iterator[R]:
    """What `read` makes of each item, in the order of the items; `readers` of them are read at a time."""
    with ThreadPoolExecutor(readers, thread_name_prefix="reader") as threads:
        for group in in_groups(items):
            yield from threads.map(read, group)


def in_groups(items: Iterable[T]) -> Iterator[list[T]]:
    """The items, `AT_ONCE` of them at a time."""
    iterator = iter(items)
    while group := list(islice(iterator, AT_ONCE)):
        yield group
