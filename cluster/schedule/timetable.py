"""Timetable: the planned times of a cron expression in a time zone, through the changes of its clocks.

A clock that is put forward skips an hour of the day, and one that is put back has an hour twice. What is planned for
certain hours happens on such days, too, and once: at the end of an hour that is skipped, in the first of two. What is
planned for every hour follows the real time: it is left out with the hour that is not there, and there twice.

Only what all of cron, systemd and Kubernetes understand alike is taken: five fields, no `L`, `#`, `?` or `H`.
"""

import heapq
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import takewhile
from zoneinfo import ZoneInfo

from croniter import CroniterError, croniter

from actors.errors import InputError, Problem

ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}
ITEM = r"(?:\d+(?:-\d+(?:/\d+)?)?|[a-z]{3}(?:-[a-z]{3})?)"
FIELD = re.compile(rf"\*(?:/\d+)?|{ITEM}(?:,{ITEM})*", re.IGNORECASE)
PLAIN = re.compile(r"\*(?:/\d+)?")
"""What is written as it is. Ranges of names are none of Debian's cron, and a Sunday of 7 is none of Kubernetes'."""
EXAMPLE = 'five fields such as "0 2 * * *": minute, hour, day of the month, month, day of the week'
MARGIN = timedelta(hours=26)
"""More than any zone has ever put its clocks forward or back: the island of Samoa left out a day."""


@dataclass(frozen=True)
class Timetable:
    """Checked when it is made. Moments have a time zone; those that it gives have its own."""

    cron: str
    timezone: str

    def __post_init__(self) -> None:
        """Raises `InputError`: LM1701 for an expression, LM1702 for a zone that cannot be used."""
        try:
            _ = self.zone
        except (KeyError, ValueError, OSError):
            action = "a name such as Europe/Berlin, America/New_York or UTC"
            raise InputError(
                Problem("LM1702", "there is no such time zone", value=self.timezone, help=action)
            ) from None
        fields = self._fields
        if len(fields) != 5 or not all(FIELD.fullmatch(field) for field in fields):
            raise InputError(self._bad("not a time of cron's", EXAMPLE))
        try:
            croniter(" ".join(fields), datetime(2000, 1, 1)).get_next(datetime)
        except (CroniterError, ValueError, KeyError) as error:
            raise InputError(self._bad(f"cron has no such time: {error}", EXAMPLE)) from None
        day, weekday = fields[2], fields[4]
        if "*" not in (day, weekday) and "*" in day[0] + weekday[0]:
            said = "a day of the month and one of the week, one of them with `*/`: some daemons want both, some either"
            raise InputError(self._bad(said, "leave one of the two at `*`"))

    @cached_property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)

    def after(self, moment: datetime) -> Iterator[datetime]:
        """The planned times later than `moment`, without end. The soonest first."""
        return (planned.astimezone(self.zone) for planned in self._after(moment))

    def until(self, moment: datetime, since: datetime | None = None) -> list[datetime]:
        """The planned times after `since` and up to `moment`; without `since`, the last one alone."""
        last = moment.astimezone(UTC)
        times = takewhile(lambda planned: planned <= last, self._after(since or self._some_before(moment)))
        found = [planned.astimezone(self.zone) for planned in times]
        return found if since else found[-1:]

    def __contains__(self, moment: object) -> bool:
        assert isinstance(moment, datetime)
        instant = moment.astimezone(UTC)  # before anything is taken from it: clocks on the wall may have skipped that
        return next(self._after(instant - timedelta(seconds=1))) == instant

    @cached_property
    def values(self) -> list[list[int] | None]:
        """What each of the five fields means, in numbers; None of a `*`."""
        expanded = croniter(" ".join(self._fields)).expanded
        return [None if "*" in field else sorted(int(value) for value in field) for field in expanded]

    @property
    def portable(self) -> str:
        """The expression in words that every daemon knows."""
        pairs = zip(self._fields, self.values, strict=True)
        return " ".join(
            field if values is None or PLAIN.fullmatch(field) else ",".join(map(str, values)) for field, values in pairs
        )

    @property
    def is_hourly(self) -> bool:
        """Whether it follows the real time and not the clocks on the wall."""
        hours = self.values[1]
        return hours is None or len(hours) == 24

    @property
    def _fields(self) -> list[str]:
        return ALIASES.get(self.cron.strip().lower(), self.cron).split()

    def _after(self, moment: datetime) -> Iterator[datetime]:
        """In UTC, as Python takes two times of one zone for equal that differ by the hour which clocks show twice."""
        soon: list[datetime] = []
        last = moment.astimezone(UTC)
        for wall in self._walls(last - MARGIN):
            instants = self._instants(wall)
            while soon and soon[0] < min(instants, default=_early(wall, self.zone)):
                found = heapq.heappop(soon)
                if found > last:
                    last = found
                    yield found
            for instant in instants:
                heapq.heappush(soon, instant)

    def _walls(self, moment: datetime) -> Iterator[datetime]:
        """Times as clocks on the wall show them, whatever becomes of these clocks."""
        wall = moment.astimezone(self.zone).replace(tzinfo=None)
        times = croniter(" ".join(self._fields), wall)
        while True:
            yield times.get_next(datetime)

    def _some_before(self, moment: datetime) -> datetime:
        """A moment with at least one planned time between it and `moment`."""
        wall = (moment.astimezone(UTC) - 2 * MARGIN).astimezone(self.zone).replace(tzinfo=None)
        previous: datetime = croniter(" ".join(self._fields), wall).get_prev(datetime)
        return _early(previous, self.zone) - timedelta(minutes=1)

    def _instants(self, wall: datetime) -> list[datetime]:
        """When clocks show this, in UTC: never, once or twice; as often as it counts."""
        early, late = _early(wall, self.zone), wall.replace(tzinfo=self.zone, fold=1).astimezone(UTC)
        if early > late:  # skipped
            return [] if self.is_hourly else [_end_of_gap(wall, late, early, self.zone)]
        return [early, late] if self.is_hourly and late != early else [early]

    def _bad(self, message: str, action: str) -> Problem:
        return Problem("LM1701", message, value=self.cron, help=action)


def _early(wall: datetime, zone: ZoneInfo) -> datetime:
    return wall.replace(tzinfo=zone, fold=0).astimezone(UTC)


def _end_of_gap(wall: datetime, before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    """The first instant at which clocks show a time later than this one, which they skip."""
    while after - before > timedelta(seconds=1):
        middle = before + (after - before) // 2
        if middle.astimezone(zone).replace(tzinfo=None) > wall:
            after = middle
        else:
            before = middle
    return after.replace(microsecond=0)
