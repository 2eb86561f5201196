"""Schedule: a job, and when it is run again. Whoever reminds us of the time calls its command."""

import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from actors.errors import InputError, Problem
from actors.settings import Settings
from cluster.schedule.due import AUTO, Missed
from cluster.schedule.timetable import Timetable

MARK = "# lightmill schedule: "
"""Before a schedule as JSON, in whatever it is written into: what it was made from is read back from there."""
Kind = Literal["cron", "systemd", "cronjob", "rayjob", "raycronjob"]


class Schedule(Settings):
    """What a person says of it. The timetable has been checked."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?$")]
    """At most 40 letters, since Kubernetes adds some of its own and takes 63."""
    job: str
    """The path of the job file, where the schedule runs."""
    cron: str
    timezone: str = "UTC"
    missed: Missed = "latest"
    address: str | None = None
    """Of a cluster; None: the machine that the schedule runs on."""

    @property
    def timetable(self) -> Timetable:
        return Timetable(self.cron, self.timezone)

    @property
    def mark(self) -> str:
        """The line by which it is found again."""
        return MARK + self.model_dump_json()

    def words(self, *program: str) -> list[str]:
        """What is to be called at its times, by the words that call lightmill there."""
        words = [*program, "schedule", "run", self.job, "--name", self.name, "--cron", self.cron]
        words += ["--timezone", self.timezone, "--missed", self.missed, "--slot", AUTO]
        return [*words, "--address", self.address] if self.address else words

    def command(self) -> str:
        """The same, for a shell on this machine that has no PATH worth the name."""
        return shlex.join(self.words(*program()))


def read_marks(text: str) -> list[Schedule]:
    """The schedules that a text was made from. A mark that somebody has edited is none of ours any more."""
    found = []
    for line in text.splitlines():
        if line.startswith(MARK):
            try:
                found.append(Schedule.model_validate_json(line.removeprefix(MARK)))
            except ValidationError:
                continue
    return found


def make_schedule(name: str, job: Path, cron: str, timezone: str, missed: Missed, address: str | None) -> Schedule:
    """Raises `InputError` with what is wrong: LM1701 and LM1702 of the time, LM1707 of the name."""
    Timetable(cron, timezone)
    path = str(job.expanduser().absolute())
    try:
        return Schedule(name=name, job=path, cron=cron, timezone=timezone, missed=missed, address=address)
    except ValidationError:
        action = "at most 40 small letters, digits and dashes, as Kubernetes wants them"
        raise InputError(Problem("LM1707", "no name for a schedule", value=name, help=action)) from None


def program() -> list[str]:
    """How this very lightmill is called from anywhere."""
    called = Path(sys.argv[0]).absolute()
    if called.name == "lightmill" and called.exists():
        return [str(called)]
    found = shutil.which("lightmill")
    return [str(Path(found).absolute())] if found else [sys.executable, "-P", "-m", "cluster"]
