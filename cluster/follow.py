"""Follow: what a person sees of a run while it goes on, and at its end."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from jobs.status import Status

LINE_SECONDS = 10.0
"""Between two lines of progress where there is no terminal to draw a bar on."""


class Follower(Protocol):
    """Shows a run as it goes."""

    def say(self, text: str) -> None: ...

    def show(self, status: "Status") -> None: ...


class Bar:
    """A bar on a terminal."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None

    def say(self, text: str) -> None:
        """Print above the bar."""
        self._progress.console.print(escape(text), highlight=False)

    def show(self, status: "Status") -> None:
        """Move the bar."""
        if self._task is None:
            self._task = self._progress.add_task("", total=status.total, rate="", extra="")
        extra = f"{status.workers}/{status.workers_wanted} workers"
        if status.failed:
            extra += f", [red]{status.failed:,} failed[/red]"
        self._progress.update(
            self._task,
            description=status.state,
            completed=status.done,
            rate=f"{status.images_per_second:,.1f} images/s",
            extra=extra,
        )


class Lines:
    """A line every ten seconds, for logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown = time.monotonic()

    def say(self, text: str) -> None:
        """Print at once."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def show(self, status: "Status") -> None:
        """Print if the last line is long enough ago."""
        if time.monotonic() - self._shown >= LINE_SECONDS:
            self._shown = time.monotonic()
            self.say(line(status))


@contextmanager
def follower(console: Console) -> Iterator[Follower]:
    """The follower that suits where standard error goes."""
    if not console.is_terminal:
        yield Lines(console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[extra]}"),
    )
    with Progress(*columns, console=console) as progress:
        yield Bar(progress)


def line(status: "Status") -> str:
    """A status in one line."""
    parts = [
        f"{status.state}: {status.done:,}/{status.total:,} images",
        f"{status.images_per_second:,.1f} images/s",
        f"{status.failed:,} failed",
        f"{status.workers}/{status.workers_wanted} workers",
    ]
    if status.eta_seconds is not None and status.state == "running":
        parts.insert(2, f"{_duration(status.eta_seconds)} left")
    return ", ".join(parts)


def summary(end: Mapping[str, Any]) -> str:
    """What the run came to: images, images per second, and where the workers' seconds went."""
    totals = end.get("totals")
    lines = [end["message"]]
    if totals:
        lines.append(
            f"{totals['ok']:,} images ok, {totals['failed']:,} failed, {totals['filtered']:,} filtered, in "
            f"{totals['data_files']:,} files of {totals['data_bytes'] / 1e6:,.1f} MB"
        )
    seconds = end.get("seconds") or {}
    if seconds:
        spent = ", ".join(f"{cause.replace('_', ' ')} {value:.1f}" for cause, value in seconds.items())
        lines.append(f"{end['made']:,} made in {_duration(end['wall'])} ({end['rate']:,.1f} images/s)")
        lines.append(f"seconds of the workers: {spent}")
    return "\n".join(lines)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"
