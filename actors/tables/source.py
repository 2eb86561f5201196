"""TableSource: the prompts as the user named them, surveyed: which files, how many rows, which columns."""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pyarrow as pa

from actors.errors import InputError, Problem
from actors.settings import StorageSettings
from actors.tables.carried import carried_schema
from actors.tables.files import FoundFile, absolute, find_files
from actors.tables.parquet import ParquetFile, unreadable
from actors.tables.scan import Survey, column_types, scan
from actors.tables.table import PromptTable, TableFile, TableIdentity

FOOTER_THREADS = 16
Progress = Callable[[int], None]
"""Called with the number of rows done so far."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of the source, with its rows in blocks: row groups, or 65,536 records of text."""

    found: FoundFile
    blocks: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSource:
    """What is known of a table after Parquet footers, or the records of text files, have been read once."""

    identity: TableIdentity
    files: tuple[SourceFile, ...]
    schema: pa.Schema = field(hash=False)
    """Every column, in the type in which it is carried."""
    needs_rewrite: bool
    """Text, or row groups too large for a worker to decode whole."""

    @property
    def rows(self) -> int:
        return self.identity.rows

    def table(self) -> PromptTable:
        """The table as it stands, for workers to read. Only where no rewriting is needed."""
        assert not self.needs_rewrite
        files = tuple(TableFile(file.found.url, file.found.version, file.blocks) for file in self.files)
        return PromptTable(identity=self.identity, files=files, schema=self.schema)


def open_source(uri: str, storage: StorageSettings, progress: Progress | None = None) -> TableSource:
    """Survey the table behind a file, folder or glob, local or `s3://`. Raises `InputError` with every fault found."""
    found = find_files(uri, storage)
    if found[0].format == "parquet":
        with ThreadPoolExecutor(FOOTER_THREADS) as threads:
            surveys = _gather(threads.map(lambda file: _survey(lambda: _footer(file, storage)), found))
        schema = _common_schema(found, [survey.schema for survey in surveys])
    else:
        report = _cumulative(progress)
        surveys = _gather(_survey(lambda file=file: scan(file, storage, report)) for file in found)  # type: ignore[misc]
        schema = _text_schema(found, surveys)
    rows = sum(sum(survey.blocks) for survey in surveys)
    if not rows:
        raise InputError(
            Problem("LM1002", "the table has no rows", absolute(uri), help="was it written by a job that failed?")
        )
    return TableSource(
        identity=TableIdentity(absolute(uri), _digest(found), rows),
        files=tuple(SourceFile(file, survey.blocks) for file, survey in zip(found, surveys, strict=True)),
        schema=schema,
        needs_rewrite=not all(survey.fits for survey in surveys),
    )


def source_version(uri: str, storage: StorageSettings) -> str:
    """What `TableIdentity.version` is now, by stat and list alone: how a resumed job notices another table."""
    return _digest(find_files(uri, storage))


def _digest(files: Iterable[FoundFile]) -> str:
    listed = json.dumps([[file.url, file.version] for file in files])
    return hashlib.sha256(listed.encode()).hexdigest()[:32]


def _footer(file: FoundFile, storage: StorageSettings) -> Survey:
    if not file.size:
        raise InputError(Problem("LM1002", "the file is empty", file.url, help="write it again, or remove it"))
    parquet = ParquetFile(file.url, storage)
    groups = range(parquet.metadata.num_row_groups)
    for index in groups:
        parquet.check_footer(index)
    blocks = tuple(parquet.metadata.row_group(index).num_rows for index in groups)
    if sum(blocks) != parquet.metadata.num_rows or min(blocks, default=0) < 0:
        raise InputError(unreadable(file.url, ValueError("its footer contradicts itself")))
    return Survey(blocks, schema=carried_schema(parquet.schema), fits=all(map(parquet.fits, groups)))


def _survey(look: Callable[[], Survey]) -> Survey | InputError:
    try:
        return look()
    except InputError as error:
        return error


def _gather(surveys: Iterable[Survey | InputError]) -> list[Survey]:
    """All surveys, or all the problems of all files at once."""
    listed = list(surveys)
    problems = [problem for survey in listed if isinstance(survey, InputError) for problem in survey.problems]
    if problems:
        raise InputError(*problems)
    return [survey for survey in listed if isinstance(survey, Survey)]


def _common_schema(files: Sequence[FoundFile], schemas: Sequence[pa.Schema]) -> pa.Schema:
    first = {column.name: column.type for column in schemas[0]}
    problems = []
    for file, schema in zip(files[1:], schemas[1:], strict=True):
        other = {column.name: column.type for column in schema}
        if other != first:
            problems.append(_mixed(file, files[0], first, other))
    if problems:
        raise InputError(*problems)
    return schemas[0]


def _mixed(file: FoundFile, base: FoundFile, first: dict[str, pa.DataType], other: dict[str, pa.DataType]) -> Problem:
    parts = [f'has no "{name}"' for name in first if name not in other]
    parts += [f'has "{name}" besides' for name in other if name not in first]
    parts += [f'"{n}" is {other[n]}, not {first[n]}' for n in first if n in other and other[n] != first[n]]
    message = f"the columns differ from those of {base.url.rsplit('/', 1)[-1]}: {'; '.join(parts[:10])}"
    return Problem("LM1019", message, file.url, help="make the files alike, or name those that are with a glob")


def _text_schema(files: Sequence[FoundFile], surveys: Sequence[Survey]) -> pa.Schema:
    if files[0].format == "jsonl":
        return column_types(survey.kinds for survey in surveys)
    return _common_schema(files, [column_types([survey.kinds]) for survey in surveys])


def _cumulative(progress: Progress | None) -> Progress:
    """Turns rows counted so far in one file after another into rows so far."""
    done = 0

    def add(rows: int) -> None:
        nonlocal done
        done += rows
        if progress:
            progress(done)

    return add
