"""systemd: a timer and a service of the user's own for each schedule."""

import os
import subprocess
from pathlib import Path

from actors.errors import Problem, RunError
from cluster.schedule.schedule import Schedule, program, read_marks
from cluster.schedule.timetable import Timetable

DAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
SPREAD_SECONDS = 30
"""Schedules of many machines do not all knock at a store in the same second."""


def render(schedule: Schedule) -> str:
    """Both units, one after the other, each under its name."""
    return "\n".join(f"# {name}\n{text}" for name, text in units(schedule).items())


def units(schedule: Schedule) -> dict[str, str]:
    """By the names of their files."""
    times = "".join(f"OnCalendar={line}\n" for line in calendar(schedule.timetable))
    timer = (
        f"{schedule.mark}\n[Unit]\nDescription=lightmill: when {schedule.name} is due\n\n"
        f"[Timer]\n{times}Persistent=true\nRandomizedDelaySec={SPREAD_SECONDS}\n\n[Install]\nWantedBy=timers.target\n"
    )
    command = " ".join(_quoted(word) for word in schedule.words(*program()))
    service = (
        f"[Unit]\nDescription=lightmill: {schedule.name}\nWants=network-online.target\nAfter=network-online.target\n\n"
        # The second SIGTERM, or its own patience, ends lightmill; what is committed stays.
        f"[Service]\nType=oneshot\nExecStart={command}\nTimeoutStopSec=15min\nNoNewPrivileges=true\n"
    )
    return {f"{_stem(schedule.name)}.service": service, f"{_stem(schedule.name)}.timer": timer}


def calendar(timetable: Timetable) -> list[str]:
    """The timetable as systemd writes it: two lines where either of two kinds of days will do."""
    minutes, hours, days, months, weekdays = timetable.values
    time = f"{_list(hours)}:{_list(minutes)}:00 {timetable.timezone}"
    names = ",".join(DAYS[day] for day in weekdays) + " " if weekdays else ""
    if days and weekdays:
        return [f"*-{_list(months)}-{_list(days)} {time}", f"{names}*-{_list(months)}-* {time}"]
    return [f"{names}*-{_list(months)}-{_list(days)} {time}"]


def add(schedule: Schedule) -> str:
    """Write the units and start the timer. Where they are."""
    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in units(schedule).items():
        (folder / name).write_text(text)
    try:
        _systemctl("daemon-reload")
        _systemctl("enable", "--now", f"{_stem(schedule.name)}.timer")
    except RunError:
        _delete(schedule.name)
        raise
    return str(folder / f"{_stem(schedule.name)}.timer")


def remove(name: str) -> bool:
    """Stop the timer and delete the units. Whether they were there."""
    if not (_folder() / f"{_stem(name)}.timer").exists():
        return False
    _systemctl("disable", "--now", f"{_stem(name)}.timer")
    _delete(name)
    _systemctl("daemon-reload")
    return True


def schedules() -> list[Schedule]:
    """Those whose timers lie in the user's folder."""
    return [one for path in sorted(_folder().glob("lightmill-*.timer")) for one in read_marks(path.read_text())]


def _delete(name: str) -> None:
    for ending in ("timer", "service"):
        (_folder() / f"{_stem(name)}.{ending}").unlink(missing_ok=True)


def _stem(name: str) -> str:
    return f"lightmill-{name}"


def _folder() -> Path:
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "systemd" / "user"


def _list(values: list[int] | None) -> str:
    return "*" if values is None else ",".join(f"{value:02d}" for value in values)


def _quoted(word: str) -> str:
    """As ExecStart wants it: in quotes, `%` and `$` doubled."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'


def _systemctl(*words: str) -> None:
    try:
        done = subprocess.run(["systemctl", "--user", *words], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise RunError(_refused("there is no `systemctl` on this machine")) from None
    if done.returncode:
        raise RunError(_refused(done.stderr))


def _refused(said: str) -> Problem:
    action = "choose another `--to`; or `loginctl enable-linger`, where the user's systemd ends with the session"
    return Problem("LM1708", "systemd does not take the schedule", value=said.strip()[:300], help=action)
