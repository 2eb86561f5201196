"""Checks: what is wrong with the rows of a table, found before a GPU is paid for."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from actors.errors import InputError, Problem
from actors.models.facts import ModelFacts
from actors.tables.carried import rows
from actors.tables.columns import unused_parameters, use_columns
from actors.tables.prompt_filter import PromptFilter
from actors.tables.references import References
from actors.tables.row import RowParser, lane_name
from actors.tables.source import TableSource
from actors.tables.stream import stream
from actors.tables.tokens import TokenCounter, open_token_counter
from jobs.check_report import Checked, CheckReport
from jobs.limits import LimitSettings
from jobs.order import CheckMode
from jobs.spec import JobSpec
from jobs.tally import ReadRow, RowTally

CHECKED_WHOLE = 1_000_000
"""Rows up to which `auto` checks them all: some ten seconds."""
SAMPLED_BLOCKS = 16
SAMPLED_ROWS = 65_536
"""Of one block: some tables are a single row group."""
NAMED_IDS = 5


def check_rows(
    source: TableSource,
    spec: JobSpec,
    mode: CheckMode = "auto",
    blocked: Sequence[str] = (),
    facts: Sequence[ModelFacts] = (),
) -> CheckReport:
    """Read rows as the workers will, and tell what becomes of them. Changes nothing. Of the models with `facts`, tokens
    are counted.

    Raises `InputError` where the table lacks a column that the job names, or cannot be read.
    """
    try:
        use = use_columns(source.schema.names, spec.columns, spec.overrides)
    except InputError as error:
        raise InputError(*(replace(problem, where=source.identity.uri) for problem in error.problems)) from error
    chosen: Checked = ("all" if source.rows <= CHECKED_WHOLE else "sample") if mode == "auto" else mode
    has_ids = chosen == "all" and use.id is not None
    tally = RowTally(_token_counters(spec, facts) if chosen != "none" else (), has_ids=has_ids)
    if chosen != "none":
        for batch in _batches(source, spec, chosen, PromptFilter(spec.prompt_filter, blocked)):
            tally.add(batch)
    suspects = tally.repeated_ids()
    repeated = _repeated(source, spec, suspects) if suspects else {}
    return tally.report(chosen, source.rows, unused_parameters(use), repeated)


def refuse_bad(report: CheckReport, limits: LimitSettings) -> None:
    """Raise `InputError` where a larger share of the rows is bad than may fail, or where ids occur twice."""
    fatal = [problem for problem in report.problems if problem.code == "LM1011"]
    if report.bad_share > limits.max_failed_share:
        message = (
            f"{report.bad_rows:,} of {report.checked_rows:,} rows checked are bad ({report.bad_share:.1%}); "
            f"the job allows {limits.max_failed_share:.1%}"
        )
        action = "mend the rows that are named, or raise max_failed_share under limits: in the job file"
        fatal = [Problem("LM1023", message, help=action), *fatal, *report.row_problems]
    if fatal:
        raise InputError(*fatal)


def _batches(
    source: TableSource, spec: JobSpec, mode: Checked, prompt_filter: PromptFilter | None = None
) -> Iterator[list[ReadRow]]:
    use = use_columns(source.schema.names, spec.columns, spec.overrides)
    routed = use.overrides.get("model")
    references = References(source.identity.uri, spec.inputs.allow, spec.inputs.folder)
    parser = RowParser(use, references, tuple(model.model for model in spec.lanes), prompt_filter)
    most = SAMPLED_ROWS if mode == "sample" else None
    for batch in stream(source, spec.storage, _choice(source, mode), most):
        yield [
            ReadRow(
                parser.prompt(batch.first_row + offset, row),
                lane_name(row[routed]) if routed else None,
                f"{batch.url}:{batch.places[offset]}",
            )
            for offset, row in enumerate(rows(batch.table, source.schema))
        ]


def _choice(source: TableSource, mode: Checked) -> Callable[[int], bool]:
    """All blocks, or some that are spread evenly over the table, the first and the last among them."""
    blocks = sum(len(file.blocks) for file in source.files)
    if mode == "all" or blocks <= SAMPLED_BLOCKS:
        return lambda block: True
    chosen = {round(number * (blocks - 1) / (SAMPLED_BLOCKS - 1)) for number in range(SAMPLED_BLOCKS)}
    return chosen.__contains__


def _repeated(source: TableSource, spec: JobSpec, suspects: frozenset[int]) -> dict[str, list[str]]:
    """The first ids that occur twice, with two places each: a second pass, which good tables are spared."""
    places: dict[str, list[str]] = {}
    twice: dict[str, list[str]] = {}
    for batch in _batches(source, spec, "all"):
        for row in batch:
            if hash(row.prompt.id) not in suspects:
                continue
            found = places.setdefault(row.prompt.id, [])
            found.append(row.place)
            if len(found) == 2:
                twice[row.prompt.id] = list(found)
        if len(twice) >= NAMED_IDS:
            break
    return dict(list(twice.items())[:NAMED_IDS])


def _token_counters(spec: JobSpec, facts: Sequence[ModelFacts]) -> tuple[TokenCounter, ...]:
    plain = {settings.model for settings in spec.lanes if settings.prompt_encoding == "plain"}
    known = {one.model: one for one in facts if one.model in plain}
    return tuple(counter for one in known.values() if (counter := open_token_counter(one)))
