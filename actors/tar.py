"""Tar archives whose bytes follow from their members alone: time 0, owner 0, mode 0644, no names of people.

Headers are written here, not by `tarfile`: a USTAR header is 512 bytes of which only name, size and checksum differ,
and setting those takes a tenth of the time. Offsets are multiples of 512, so members can be made apart and appended.
"""

BLOCK = 512
END = bytes(2 * BLOCK)
"""Two empty blocks end an archive."""
MAX_SIZE = 8**11 - 1
"""The size field holds eleven octal digits: 8 GiB, which no image reaches."""


def _octal(value: int, digits: int) -> bytes:
    return b"%0*o\0" % (digits, value)


# name 100 | mode, uid, gid, 8 each | size 12 | mtime 12 | checksum 8, counted as spaces | type 1, link name 100, ...
_OWNER = _octal(0o644, 7) + _octal(0, 7) + _octal(0, 7)
_TIME = _octal(0, 11)
_TAIL = b"0" + bytes(100) + b"ustar\00000" + bytes(32 + 32 + 8 + 8 + 155 + 12)
_FIXED_SUM = sum(_OWNER) + sum(_TIME) + 8 * ord(" ") + sum(_TAIL)


def header(name: str, size: int) -> bytes:
    """The block before a member's data. `name` is ASCII, with one dot: the one before its extension."""
    assert len(name) <= 100, name
    assert name.count(".") == 1, name
    assert size <= MAX_SIZE, size
    raw_name = name.encode("ascii")
    raw_size = _octal(size, 11)
    checksum = b"%06o\0 " % (_FIXED_SUM + sum(raw_name) + sum(raw_size))
    return b"".join((raw_name.ljust(100, b"\0"), _OWNER, raw_size, _TIME, checksum, _TAIL))


def member(name: str, data: bytes) -> tuple[bytes, bytes, bytes]:
    """A member's header, its data, and the zeros that fill its last block."""
    return header(name, len(data)), data, bytes(-len(data) % BLOCK)
