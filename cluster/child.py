"""Child: a driver on this machine, run as a process of its own that never outlives the command line."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from types import FrameType
from typing import Any

from actors.errors import Problem, RunError
from jobs.order import ON_LEASH, Order

STDERR_TAIL = 4000
SIGNALLED = 128
"""A shell adds it to the number of the signal that ended a process."""
AT_ONCE = "stopped at once; what is committed stays, and the same command resumes"


class Child:
    """`python -m jobs`, on a leash.

    It has a session of its own, so that Ctrl-C reaches the command line alone, which passes it on as a word: the first
    asks for an orderly end, the second ends it at once. Its standard input is a pipe that only this process holds:
    when this process is gone, however that came about, the pipe ends and the driver with it, and its workers with that.
    """

    def __init__(self, order: Order) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `events`
        self._signals: list[int] = []
        # -P keeps the current folder off the path: a stray `jobs/` there must not become the driver.
        command = [sys.executable, "-P", "-m", "jobs", ON_LEASH]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if order.debug else self._errors,
            start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self._tell(order.model_dump_json())

    def events(self) -> Iterator[dict[str, Any]]:
        """What the driver says, until it ends. Raises `RunError` if it ends without a last word."""
        assert self._process.stdout is not None
        before = {number: signal.signal(number, self._pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
        ended = False
        try:
            for line in self._process.stdout:
                event = json.loads(line)
                ended = ended or event["event"] == "end"
                yield event
            status = self._process.wait()
            if not ended and len(self._signals) > 1:
                yield {"event": "end", "exit_code": SIGNALLED + self._signals[0], "message": AT_ONCE}
            elif not ended:
                raise RunError(self._died(status))
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            self._close()

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        word = "kill" if self._signals else {signal.SIGINT: "stop", signal.SIGTERM: "terminate"}[signal.Signals(number)]
        self._signals.append(number)
        self._tell(word)

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended already

    def _close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def _died(self, status: int) -> Problem:
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, self._errors.tell() - STDERR_TAIL))
        last_words = self._errors.read().decode(errors="replace").strip().rpartition("\n")[2]
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        return Problem(
            "LM1614",
            f"the driver {how}, without a word",
            value=last_words,
            help="run the same command again: it resumes from what is committed; with --debug it says more",
        )
