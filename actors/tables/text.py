"""CSV, TSV and JSONL, compressed or not, as records: one at a time, each with the line on which it begins."""

import csv
import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from actors.errors import InputError, Problem
from actors.settings import StorageSettings
from actors.tables.files import FoundFile, open_file

MAX_ROW_BYTES = 16 << 20
"""No prompt needs it, and a quote that is never closed or a file without newlines must not fill the memory."""
CHUNK = 1 << 20
BOM = b"\xef\xbb\xbf"

Lines = Iterator[tuple[int, str]]
"""Lines with their numbers, from 1, and their ends."""

csv.field_size_limit(2 * MAX_ROW_BYTES)  # of the whole process; ours, below, says where and what to do


def fields(file: FoundFile, storage: StorageSettings) -> Iterator[tuple[int, list[str]]]:
    """The records of a CSV or TSV file, header first, with their lines. Blank lines are none."""
    lines = _lines(file, storage)
    return _csv_fields(file, lines) if file.format == "csv" else _tsv_fields(lines)


def objects(file: FoundFile, storage: StorageSettings) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSONL file with their lines. Blank lines are none."""
    for number, line in _lines(file, storage):
        if line.isspace():
            continue
        try:
            value = json.loads(line, object_pairs_hook=_unique)
        except (ValueError, RecursionError) as error:
            raise InputError(_malformed(file, number, f"line {number} is not JSON: {error}", line)) from error
        if not isinstance(value, dict):
            raise InputError(_malformed(file, number, f"line {number} is not a JSON object", line))
        yield number, value


def header(file: FoundFile, names: list[str]) -> list[str]:
    """The names of the columns. One without a name, such as the index that pandas writes, is called by its number."""
    named = [name or f"column_{number}" for number, name in enumerate(names, 1)]
    for number, name in enumerate(named):
        if name in named[:number]:
            raise InputError(
                Problem(
                    "LM1021",
                    f'the table has more than one column named "{name}"',
                    f"{file.url}:1",
                    help="rename all but one",
                )
            )
    return named


def ragged(file: FoundFile, line: int, found: int, expected: int) -> Problem:
    """A record with more or fewer fields than the header."""
    quotes = "put double quotes around fields that hold commas"
    action = quotes if file.format == "csv" else "remove tabs and line breaks within fields"
    return Problem(
        "LM1017", f"line {line} has {found} fields, the header has {expected}", f"{file.url}:{line}", help=action
    )


def _tsv_fields(lines: Lines) -> Iterator[tuple[int, list[str]]]:
    for number, line in lines:
        text = line.removesuffix("\n").removesuffix("\r")
        if text:
            yield number, text.split("\t")


def _csv_fields(file: FoundFile, lines: Lines) -> Iterator[tuple[int, list[str]]]:
    for number, line in lines:
        if '"' in line:
            yield number, _quoted_record(file, number, line, lines)
        else:
            text = line.removesuffix("\n").removesuffix("\r")
            if text:
                yield number, text.split(",")


def _quoted_record(file: FoundFile, number: int, line: str, lines: Lines) -> list[str]:
    """The record that begins with this line; takes more lines where quotes go over their ends."""

    def feed() -> Iterator[str]:
        yield line
        size = len(line)
        for _, more in lines:
            size += len(more)
            if size > MAX_ROW_BYTES:
                raise InputError(_too_long(file, number))
            yield more

    try:
        return next(csv.reader(feed(), strict=True))
    except csv.Error as error:
        unclosed = "unexpected end of data" in str(error)
        message = f"a quote on line {number} is never closed" if unclosed else f"line {number} is not CSV: {error}"
        raise InputError(_malformed(file, number, message, line)) from error


def _lines(file: FoundFile, storage: StorageSettings) -> Lines:
    """The lines of the file: UTF-8, and none above `MAX_ROW_BYTES`."""
    for number, raw in enumerate(_raw_lines(file, storage), 1):
        line = raw.removeprefix(BOM) if number == 1 else raw
        if len(line) > MAX_ROW_BYTES:
            raise InputError(_too_long(file, number))
        try:
            yield number, line.decode()
        except UnicodeDecodeError as error:
            raise InputError(_not_utf8(file, number, line, error)) from error


def _raw_lines(file: FoundFile, storage: StorageSettings) -> Iterator[bytes]:
    rest = b""
    for chunk in _chunks(file, storage):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line + b"\n"
        if len(rest) > MAX_ROW_BYTES:
            break
    if rest:
        yield rest


def _chunks(file: FoundFile, storage: StorageSettings) -> Iterator[bytes]:
    with open_file(file.url, storage) as handle:
        stream = pa.CompressedInputStream(handle, file.compression) if file.compression else handle
        try:
            while chunk := stream.read(CHUNK):
                yield chunk
        except (OSError, pa.ArrowInvalid) as error:
            if not file.compression:
                raise
            message = f"the file cannot be decompressed as {file.compression}: {error}"
            raise InputError(
                Problem("LM1018", message, file.url, help="was the upload cut short? copy it again")
            ) from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key appears twice in one object")
    "".join(values).encode()  # half a surrogate pair is a ValueError: no column can be named so
    return values


def _malformed(file: FoundFile, line: int, message: str, text: str) -> Problem:
    return Problem("LM1017", message, f"{file.url}:{line}", value=text.strip()[:80], help=f"mend line {line}")


def _too_long(file: FoundFile, line: int) -> Problem:
    action = f"look at line {line}: is a quote or a newline missing?"
    return Problem(
        "LM1016", f"the row on line {line} is larger than {MAX_ROW_BYTES >> 20} MiB", f"{file.url}:{line}", help=action
    )


def _not_utf8(file: FoundFile, line: int, raw: bytes, error: UnicodeDecodeError) -> Problem:
    byte = raw[error.start]
    encoding = "utf-16" if line == 1 and raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "latin-1"
    start = max(0, error.start - 20)
    name = file.url.rsplit("/", 1)[-1]
    return Problem(
        "LM1014",
        f"byte 0x{byte:02X} at line {line}, byte {error.start + 1} is not UTF-8; the file looks like {encoding}",
        f"{file.url}:{line}",
        value=raw[start : start + 60].decode("latin-1").strip(),
        help=f"iconv -f {encoding} -t utf-8 {name} > utf8-{name}",
    )
