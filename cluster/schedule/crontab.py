"""Crontab: schedules in the user's own table, each between two lines of ours. Whatever else stands there stays."""

import os
import re
import shlex
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from actors.errors import Problem, RunError
from cluster.schedule.schedule import Schedule, read_marks

BEGIN, END = "# begin lightmill {name}", "# end lightmill {name}"
SAMPLED_DAYS = 800
"""Of two zones' offsets: more than two years hold every change that they have."""


def render(schedule: Schedule) -> str:
    """The lines of one schedule."""
    command = f"{schedule.command()} >> {shlex.quote(str(log_file(schedule.name)))} 2>&1"
    command = command.replace("%", r"\%")  # cron takes a bare one for a new line
    line = f"{_times(schedule, _local_zone())} {command}"
    return "\n".join([BEGIN.format(name=schedule.name), schedule.mark, line, END.format(name=schedule.name), ""])


def add(schedule: Schedule) -> str:
    """Put it into the table, in the place of what was there under its name. Where that is."""
    log_file(schedule.name).parent.mkdir(parents=True, exist_ok=True)
    _write(_without(_read(), schedule.name) + render(schedule))
    return "the crontab of this user"


def remove(name: str) -> bool:
    """Take it out of the table. Whether it was there."""
    before = _read()
    after = _without(before, name)
    if after != before:
        _write(after)
    return after != before


def schedules() -> list[Schedule]:
    """Those in the table."""
    try:
        return read_marks(_read())
    except RunError:
        return []  # where there is no cron, none of its schedules is


def log_file(name: str) -> Path:
    """Where what a run says is kept, as cron would mail it to nobody."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "lightmill" / f"{name}.log"


def _times(schedule: Schedule, local: ZoneInfo | None) -> str:
    """When to be reminded, by the clock of this machine, which is all that cron knows of.

    Where the schedule goes by another clock, that is every hour at its minutes: one that is not due ends at once.
    """
    timetable = schedule.timetable
    if local is not None and _shifts(local, timetable.zone) == {0}:
        return timetable.portable
    shifts = _shifts(local, timetable.zone) if local is not None else {0, 15, 30, 45}
    minutes = timetable.values[0]
    if minutes is None:
        return "* * * * *"
    shifted = sorted({(minute + shift) % 60 for minute in minutes for shift in shifts})
    return ",".join(map(str, shifted)) + " * * * *"


def _shifts(local: ZoneInfo, other: ZoneInfo) -> set[int]:
    """Minutes by which the clocks of one zone are ahead of the other's, in the time to come."""
    now = datetime.now(UTC)
    found = set()
    for day in range(SAMPLED_DAYS):
        moment = now + timedelta(days=day)
        here, there = moment.astimezone(local).utcoffset(), moment.astimezone(other).utcoffset()
        assert here is not None
        assert there is not None
        found.add(round((here - there).total_seconds() / 60))
    return found


def _local_zone() -> ZoneInfo | None:
    """The zone of this machine, which is cron's; None if its name cannot be told."""
    try:
        name = str(Path("/etc/localtime").resolve(strict=True)).partition("zoneinfo/")[2]
        return ZoneInfo(name or Path("/etc/timezone").read_text().strip())
    except (OSError, ValueError, KeyError):
        return None


def _without(table: str, name: str) -> str:
    begin, end = (re.escape(mark.format(name=name)) for mark in (BEGIN, END))
    return re.sub(rf"^{begin}\n.*?^{end}\n", "", table, flags=re.MULTILINE | re.DOTALL)


def _read() -> str:
    found = _crontab("-l")
    if found.returncode == 0:
        return found.stdout if found.stdout.endswith("\n") or not found.stdout else found.stdout + "\n"
    if "no crontab" in found.stderr:
        return ""
    raise RunError(_refused(found.stderr))


def _write(table: str) -> None:
    done = _crontab("-", given=table)
    if done.returncode:
        raise RunError(_refused(done.stderr))


def _crontab(word: str, given: str = "") -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(["crontab", word], input=given, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise RunError(_refused("there is no `crontab` on this machine")) from None


def _refused(said: str) -> Problem:
    action = "install cron, or choose another `--to`; `lightmill schedule render` writes the lines without installing"
    return Problem("LM1708", "cron does not take the schedule", value=said.strip()[:300], help=action)
