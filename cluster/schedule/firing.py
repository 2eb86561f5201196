"""Firing: what happens when a schedule is reminded of the time."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cluster.jobfile import load_job
from cluster.schedule.due import AUTO, due, named
from cluster.schedule.ledger import DONE, Ledger
from cluster.schedule.news import pick, settle
from cluster.schedule.schedule import Schedule
from cluster.schedule.slot import Slot
from jobs.lease import Lease, LeaseHeld
from jobs.spec import JobSpec

Make = Callable[[JobSpec], int]
"""Run a job to its end; its exit status."""
Say = Callable[[str], None]
INTERRUPTED = frozenset({130, 143})


def fire(schedule: Schedule, which: str, make: Make, say: Say, now: datetime | None = None) -> list[dict[str, Any]]:
    """Make the slots that are due, one after the other, or the one that is asked for; what each came to.

    One that is done is not made again. While anybody makes a slot of this schedule nobody else begins one: `LeaseHeld`.
    """
    now = now or datetime.now(UTC)
    timetable = schedule.timetable
    template = load_job(Path(schedule.job), {}, fill=str)
    ledger = Ledger(schedule.name, template.output, template.storage)
    asked = None if which == AUTO else named(schedule.name, timetable, which)
    beginning = ledger.begin(timetable, now)

    def wanted() -> list[Slot]:
        done = ledger.done()
        if asked:
            return [asked] if asked.key not in done else []
        since = datetime.fromisoformat(beginning.since)
        return due(schedule.name, timetable, since=since, now=now, done=done, missed=schedule.missed)

    outcomes: list[dict[str, Any]] = []
    with ExitStack() as held:
        if wanted():  # or the lease need not be asked for: where cron has another clock, that is 23 times a day
            lease = _take(held, schedule, Lease(ledger.bucket, beginning.store, f"schedule run {schedule.name}", say))
            ledger.keep(beginning, lease.require)
            for slot in wanted():
                say(f"slot {slot}")
                spec = load_job(Path(schedule.job), {}, slot.fill)
                outcomes.append(_make(slot, spec, ledger, lease, make, say))
                ledger.note(slot, outcomes[-1], lease.require)
                if outcomes[-1]["exit_code"] in INTERRUPTED:
                    break
            ledger.sweep(lease.require)
    if not outcomes:
        following = f"the next is {next(timetable.after(now)):%Y-%m-%d %H:%M %Z}"
        say(f"{asked} is done: nothing was started" if asked else f"no slot of {schedule.name} is due; {following}")
    return outcomes


def _make(slot: Slot, spec: JobSpec, ledger: Ledger, lease: Lease, make: Make, say: Say) -> dict[str, Any]:
    begun = datetime.now(UTC)
    found = pick(spec, ledger.bucket, slot.key, lease.require) if spec.only_new else None
    exit_code = 0
    if found is None or found.prompts:
        exit_code = make(spec.model_copy(update={"prompts": found.prompts}) if found else spec)
    outcome = {
        "slot": slot.key,
        "planned": slot.planned.isoformat(),
        "output": spec.output,
        "exit_code": exit_code,
        "begun_at": begun.isoformat(timespec="seconds"),
        "ended_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if found is None:
        return outcome
    failed = settle(spec, ledger.bucket, slot.key, lease.require) if exit_code in DONE and found.prompts else 0
    say(f"{found}; {failed:,} failed, which the next slot takes again")
    return {**outcome, "new": found.new, "changed": found.changed, "known": found.known, "failed": failed}


def _take(held: ExitStack, schedule: Schedule, lease: Lease) -> Lease:
    """The lease of the ledger, or the word that somebody else has it."""
    try:
        return held.enter_context(lease)
    except LeaseHeld as refusal:
        said = f"a slot of {schedule.name} is being made already: {refusal.problems[0].message}"
        action = "nothing to do: it goes on, and what is due after it is made at the next time"
        raise LeaseHeld(replace(refusal.problems[0], message=said, help=action)) from None
