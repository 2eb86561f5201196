"""Outlet: what pyarrow needs of a file, to write Parquet into whatever takes bytes."""

from collections.abc import Callable


class Outlet:
    """Hands on every piece as it is written; `close` leaves to others what becomes of them."""

    closed = False
    mode = "wb"

    def __init__(self, take: Callable[[bytes], object]) -> None:
        self._take = take
        self._position = 0

    def write(self, data: bytes) -> int:
        self._take(bytes(data))
        self._position += len(data)
        return len(data)

    def tell(self) -> int:
        return self._position

    def flush(self) -> None: ...

    def close(self) -> None: ...
