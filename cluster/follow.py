"""Follow: what a person sees of a run while it goes on, and at its end."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from cluster.words import count, duration, printable, rate, shares, size

if TYPE_CHECKING:
    from jobs.status import Status

LINE_SECONDS = 10.0
"""Between two lines of progress where there is no terminal to draw a bar on."""
FRAMES_PER_SECOND = 2
"""As often as a driver tells how far it is."""
OVER = frozenset({"finished", "failed", "stopped"})


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
        _print(self._progress.console, text)

    def show(self, status: "Status") -> None:
        """Move the bar."""
        if self._task is None:
            self._task = self._progress.add_task("", total=status.total, rate="", extra="")
        left = f"{_left(status)}, " if _left(status) else ""
        failed = f", [red]{status.failed:,} failed[/red]" if status.failed else ""
        self._progress.update(
            self._task,
            description=status.state,
            completed=status.done,
            rate=rate(status.images_per_second),
            extra=f"{left}{_workers(status)}{failed}",
        )


class Lines:
    """A line every ten seconds, for logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown = time.monotonic()

    def say(self, text: str) -> None:
        """Print at once."""
        _print(self._console, text)

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
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[extra]}"),
    )
    # Transient: the summary says it all, and a bar that stays would stop short of the last commit.
    with Progress(*columns, console=console, refresh_per_second=FRAMES_PER_SECOND, transient=True) as progress:
        yield Bar(progress)


def line(status: "Status") -> str:
    """A status in one line."""
    parts = [f"{status.state}: {status.done:,}/{status.total:,} images", rate(status.images_per_second)]
    if left := _left(status):
        parts.append(left)
    parts.append(f"{status.failed:,} failed")
    if status.state not in OVER:
        parts.append(_workers(status))
    return ", ".join(parts)


def summary(end: Mapping[str, Any]) -> str:
    """What the run came to: images, images per second, and where the workers' time went."""
    lines = [end["message"]]
    if totals := end.get("totals"):
        ok = count(totals["ok"], "image")
        lines.append(
            f"  in all      {ok} ok, {totals['failed']:,} failed, {totals['filtered']:,} filtered; "
            f"{count(totals['data_files'], 'file')}, {size(totals['data_bytes'])}"
        )
        if errors := totals["errors"]:
            lines.append("  no image    " + ", ".join(f"{number:,} for {code}" for code, number in errors.items()))
    if end.get("made"):
        steady = f" ({rate(end['steady_rate'])} once a worker was ready)" if end.get("steady_rate") else ""
        first = f"; the first after {duration(end['first_image'])}" if end.get("first_image") else ""
        made = f"{count(end['made'], 'image')} in {duration(end['wall'])}: {rate(end['rate'])}"
        lines.append(f"  this run    {made}{steady}{first}")
    if spent := end.get("seconds"):
        lines.append(f"  workers     {shares(spent)}")
    return "\n".join(lines)


def _left(status: "Status") -> str:
    running = status.eta_seconds is not None and status.state == "running"
    return f"{duration(status.eta_seconds or 0)} left" if running else ""


def _workers(status: "Status") -> str:
    return f"{status.workers} of {count(status.workers_wanted, 'worker')}"


def _print(console: Console, text: str) -> None:
    for part in text.split("\n"):
        console.print(printable(part), highlight=False, markup=False, soft_wrap=True)
