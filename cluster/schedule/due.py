"""Due: which slots a reminder of the time is about."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Literal

from actors.errors import InputError, Problem
from cluster.schedule.slot import Slot
from cluster.schedule.timetable import Timetable

Missed = Literal["skip", "latest", "all"]
PUNCTUAL = timedelta(minutes=10)
"""So late may a reminder be, and its slot is not a missed one: a machine that has just been started is slow."""
AUTO = "auto"


def due(
    name: str, timetable: Timetable, *, since: datetime, now: datetime, done: Collection[str], missed: Missed
) -> list[Slot]:
    """The slots to be made now, the oldest first. Those before `since` are nobody's."""
    slots = [Slot(name, planned) for planned in timetable.until(now, since)]
    if missed == "skip":
        slots = [slot for slot in slots[-1:] if now - slot.planned <= PUNCTUAL]
    elif missed == "latest":
        slots = slots[-1:]
    return [slot for slot in slots if slot.key not in done]


def named(name: str, timetable: Timetable, text: str) -> Slot:
    """The slot of this time, as ISO 8601 has it; without an offset, by the clocks of the timetable's zone."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        action = f"{AUTO}, or a time such as 2026-11-28T02:00"
        raise InputError(Problem("LM1706", "not a time", value=text, help=action)) from None
    zone = timetable.zone
    planned = moment.replace(tzinfo=zone) if moment.tzinfo is None else moment.astimezone(zone)
    if planned not in timetable:
        (before,), after = timetable.until(planned), next(timetable.after(planned))
        action = f"those nearest are {before:%Y-%m-%dT%H:%M} and {after:%Y-%m-%dT%H:%M}"
        raise InputError(Problem("LM1706", f"{name} has no slot at this time", value=text, help=action))
    return Slot(name, planned)
