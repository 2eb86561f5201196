"""Real child processes for tests: started, watched, killed and frozen, and never left behind."""

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import psutil

Stream = Literal["stdout", "stderr"]

NURSERY = Path(__file__).with_name("nursery.py")
POLL_S = 0.02
REST = 9
"""A look at all processes takes as long as a poll: whoever waits rests so often as long as the look took, so that he
takes a tenth of a core."""
LONGEST_REST_S = 0.5


def wait_until(condition: Callable[[], object], timeout_s: float, what: str) -> None:
    """Return once the condition holds; an AssertionError that says `what` was waited for, if it never does."""
    began = time.monotonic()
    deadline = began + timeout_s
    while not condition():
        looked = time.monotonic()
        assert looked < deadline, f"waited {timeout_s:g} s for {what}"
        time.sleep(min(max(POLL_S, REST * (looked - began)), LONGEST_REST_S))
        began = time.monotonic()


class Child:
    """A command in a session of its own, its output in two files. Leaving the `with` ends all its descendants too."""

    def __init__(self, command: Sequence[str | Path], folder: Path, *, env: Mapping[str, str] | None = None) -> None:
        """`env` is added to this process's environment; `folder` gets the output, and is where the command runs."""
        self.command = [str(word) for word in command]
        name = f"{Path(self.command[0]).name}-{time.monotonic_ns()}"
        self._files: dict[Stream, Path] = {s: folder / f"{name}.{s}" for s in ("stdout", "stderr")}
        self._nursery = subprocess.Popen(
            [sys.executable, "-I", "-S", NURSERY, *self._files.values(), *self.command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=folder,
            env={**os.environ, **(env or {})},
            bufsize=0,
            start_new_session=True,
        )
        self._status: int | None = None
        report = self._report(10)
        if report is None:
            self.end()
            raise FileNotFoundError(f"could not be started: {self.command}")
        self.pid = report

    def _report(self, timeout_s: float) -> int | None:
        assert self._nursery.stdout
        ready, _, _ = select.select([self._nursery.stdout], [], [], timeout_s)
        line = self._nursery.stdout.readline() if ready else b""
        return int(line) if line else None

    @property
    def returncode(self) -> int | None:
        """The exit status (-9: SIGKILL), or None while the command runs."""
        if self._status is None and not self._nursery.stdout.closed:
            self._status = self._report(0)
        return self._status

    @property
    def stdout(self) -> str:
        return self._read("stdout")

    @property
    def stderr(self) -> str:
        return self._read("stderr")

    def _read(self, stream: Stream) -> str:
        path = self._files[stream]
        return path.read_text(errors="replace") if path.exists() else ""

    def wait(self, timeout_s: float) -> int:
        """The exit status, once there is one."""
        wait_until(lambda: self.returncode is not None, timeout_s, f"{self} to end")
        return self._status

    def wait_for_line(self, pattern: str, timeout_s: float, stream: Stream = "stderr") -> str:
        """The first whole line in which the pattern is found. An AssertionError if the command ends without it."""
        deadline = time.monotonic() + timeout_s
        while True:
            ended = self.returncode is not None
            for line in self._read(stream).splitlines(keepends=True):
                if line.endswith("\n") and re.search(pattern, line):
                    return line.rstrip("\n")
            assert not ended, f"{self} ended with {self._status} and never said {pattern!r}"
            assert time.monotonic() < deadline, f"waited {timeout_s:g} s for {self} to say {pattern!r}"
            time.sleep(POLL_S)

    def descendants(self, pattern: str = "") -> list[psutil.Process]:
        """Every living process below the command, detached ones too, whose command line has the pattern."""
        family = [p for p in psutil.Process(self._nursery.pid).children(recursive=True) if p.pid != self.pid]
        return [process for process in family if re.search(pattern, command_line(process))]

    def wait_for_descendant(self, pattern: str, timeout_s: float) -> psutil.Process:
        """The first process below the command whose command line has the pattern."""
        wait_until(lambda: self.descendants(pattern), timeout_s, f"a process like {pattern!r} below {self}")
        return self.descendants(pattern)[0]

    def kill(self) -> None:
        """SIGKILL to the command alone; what it started lives on, as after a crash."""
        os.kill(self.pid, signal.SIGKILL)
        self.wait(10)

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def interrupt(self, number: int = signal.SIGINT) -> None:
        """Ctrl-C as a terminal sends it: to every process of the command's group."""
        os.killpg(self.pid, number)

    def end(self) -> None:
        """Kill the command and every descendant, and wait until the last is gone. Once is enough."""
        if self._nursery.stdout.closed:
            return
        self._nursery.stdin.close()
        self._nursery.wait(30)
        if self._status is None and (reported := self._nursery.stdout.read()):
            self._status = int(reported.split()[-1])
        self._nursery.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def __repr__(self) -> str:
        return f"{' '.join(self.command)[:200]}\n--- stderr:\n{self.stderr[-4000:]}\n---"


def lightmill(*arguments: str | Path) -> list[str | Path]:
    """The command line as a user types it, from the environment that runs the tests."""
    return [Path(sys.executable).with_name("lightmill"), *arguments]


def python_module(name: str, *arguments: str | Path) -> list[str | Path]:
    """`python -m NAME ...` with the interpreter that runs the tests."""
    return [sys.executable, "-m", name, *arguments]


def command_line(process: psutil.Process) -> str:
    """Words of the command line, or nothing for a process that has just ended."""
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""
