"""Examination: a job held against its models and its table, with all that is wrong in one go."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from actors.errors import InputError, Problem
from actors.models.facts import ModelFacts
from actors.models.settings import ModelSettings
from actors.tables.prompt_filter import read_block_list
from actors.tables.source import TableSource, open_source
from jobs.check_report import CheckReport
from jobs.checks import check_rows, refuse_bad
from jobs.order import CheckMode
from jobs.policy import breaches, unknowns
from jobs.spec import JobSpec
from jobs.stages import misfits, refuse_task, sized


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What is known of a job before anything is written."""

    facts: tuple[ModelFacts, ...]
    """Of the models that can be used, lane by lane."""
    source: TableSource
    report: CheckReport
    blocked: tuple[str, ...]
    """The entries of the prompt filter's block list."""
    refusals: tuple[Problem, ...]
    """Why the job is refused; empty where it is not."""
    notes: tuple[Problem, ...]
    """What else is to be said of its models."""


def examine(
    spec: JobSpec,
    check: CheckMode,
    look: Callable[[ModelSettings], ModelFacts] | None,
    known: Sequence[Problem] = (),
    *,
    count_tokens: bool = False,
) -> Examination:
    """Look at the table, and with `look` at each model. `known` is what the job is refused for already.

    Raises `InputError` where the table cannot be read at all.
    """
    facts, problems, notes = _models(spec, look)
    problems = list(dict.fromkeys([*known, *problems]))
    try:
        source = open_source(spec.prompts, spec.storage)
        blocked = read_block_list(spec.prompt_filter, spec.storage)
        report = check_rows(source, spec, check, blocked, facts if count_tokens else ())
    except InputError as error:
        raise InputError(*problems, *error.problems) from error
    try:
        refuse_bad(report, spec.limits)
    except InputError as error:
        problems += error.problems
    return Examination(
        facts=tuple(facts),
        source=source,
        report=report,
        blocked=blocked,
        refusals=tuple(dict.fromkeys(problems)),
        notes=tuple(dict.fromkeys(notes)),
    )


def _models(
    spec: JobSpec, look: Callable[[ModelSettings], ModelFacts] | None
) -> tuple[list[ModelFacts], list[Problem], list[Problem]]:
    """What is known of each, why it cannot be used, and what else is to be said of it."""
    facts: list[ModelFacts] = []
    problems: list[Problem] = []
    notes: list[Problem] = []
    for lane, settings in enumerate(spec.lanes):
        try:
            problems += breaches(spec.policy, settings)
            notes += unknowns(spec.policy, settings)
        except InputError as error:
            problems += error.problems
        try:
            known = look(settings) if look else None
            facts += [known] if known else []
            refuse_task(spec, lane, known)
        except InputError as error:
            problems += error.problems
    if len(facts) < len(spec.lanes):
        return facts, problems, notes
    try:
        chain = sized(facts, spec)
    except InputError as error:
        return facts, [*problems, *error.problems], notes
    return chain, [*problems, *misfits(chain, spec)], notes
