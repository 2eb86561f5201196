"""One pass over a text file: how many records, of which columns, of which types; and every fault of form."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from actors.errors import InputError, Problem
from actors.settings import StorageSettings
from actors.tables.files import FoundFile
from actors.tables.text import fields, header, objects, ragged
from actors.tables.values import EXACT

BLOCK_ROWS = 65_536
MAX_COLUMNS = 4096
"""JSON objects whose keys are data (ids, say) would otherwise make a column of each."""
REPORTED = 19
"""Lines; what is said of all the others is the 20th problem, and more are not shown."""
REPORT_EVERY = 10_000
INT64 = 2**63

Kinds = Mapping[str, set[str]]
"""For every column, what kinds of values were seen: bool, int, wide, huge, float, str or json."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What one file holds."""

    blocks: tuple[int, ...]
    schema: pa.Schema | None = None
    kinds: Kinds = field(default_factory=dict)
    fits: bool = False
    """Whether workers can read it as it is; text they never read."""


def scan(file: FoundFile, storage: StorageSettings, report: Callable[[int], None]) -> Survey:
    """Read the file once, keeping nothing. Raises `InputError` with every ragged line, or the first broken one."""
    survey = _scan_objects if file.format == "jsonl" else _scan_fields
    rows, kinds = survey(file, storage, report)
    full, rest = divmod(rows, BLOCK_ROWS)
    return Survey((BLOCK_ROWS,) * full + ((rest,) if rest else ()), kinds=kinds)


def column_types(kinds: Iterable[Kinds]) -> pa.Schema:
    """The Arrow type of every column of all files: the narrowest that holds each value as it was written."""
    merged: dict[str, set[str]] = {}
    for one in kinds:
        for name, seen in one.items():
            merged.setdefault(name, set()).update(seen)
    return pa.schema([(name, _type(seen)) for name, seen in merged.items()])


def _type(seen: set[str]) -> pa.DataType:
    if seen == {"bool"}:
        return pa.bool_()
    if seen and seen <= {"int", "wide"}:
        return pa.int64()
    if seen and seen <= {"int", "float"}:
        return pa.float64()
    return pa.string()  # also of mixed kinds: text stays, all else becomes JSON


def _scan_fields(file: FoundFile, storage: StorageSettings, report: Callable[[int], None]) -> tuple[int, Kinds]:
    records = fields(file, storage)
    first = next(records, None)
    if first is None:
        raise InputError(Problem("LM1002", "the file is empty", file.url, help="write it again, or remove it"))
    names = header(file, first[1])
    width, rows, faults = len(names), 0, 0
    problems: list[Problem] = []
    for line, record in records:
        rows += 1
        if rows % REPORT_EVERY == 0:
            report(REPORT_EVERY)
        if len(record) != width:
            faults += 1
            if len(problems) < REPORTED:
                problems.append(ragged(file, line, len(record), width))
    if faults > len(problems):
        more = faults - len(problems)
        message = f"{more:,} more lines have another number of fields than the header"
        action = "mend those above first; all may have one cause"
        problems.append(Problem("LM1017", message, file.url, help=action, count=more))
    if problems:
        raise InputError(*problems)
    report(rows % REPORT_EVERY)
    return rows, {name: {"str"} for name in names}


def _scan_objects(file: FoundFile, storage: StorageSettings, report: Callable[[int], None]) -> tuple[int, Kinds]:
    rows = 0
    kinds: dict[str, set[str]] = {}
    for line, row in objects(file, storage):
        rows += 1
        if rows % REPORT_EVERY == 0:
            report(REPORT_EVERY)
        for name, value in row.items():
            seen = kinds.setdefault(name, set())
            if value is not None:
                seen.add(_kind(value))
        if len(kinds) > MAX_COLUMNS:
            message = f"the objects have more than {MAX_COLUMNS} different keys"
            raise InputError(Problem("LM1021", message, f"{file.url}:{line}", help="put data in values, not in keys"))
    report(rows % REPORT_EVERY)
    return rows, kinds


def _kind(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return "int" if -EXACT <= value <= EXACT else "wide" if -INT64 <= value < INT64 else "huge"
    return KINDS.get(type(value), "json")


KINDS = {bool: "bool", float: "float", str: "str"}
