"""Leash: a driver's tie to the process that started it: words go out as JSON lines, commands come in."""

import json
import os
import sys
import threading
from collections.abc import Mapping
from typing import Any

from actors.errors import LightmillError

INTERRUPTED = 130
TERMINATED = 143
"""What a shell reports for a process that Ctrl-C, or SIGTERM, ended."""

ORDERLY = {"stop": INTERRUPTED, "terminate": TERMINATED}
"""Commands that let the batch that runs come to its end, and the exit status that follows."""


class Leash:
    """Standard output and input of the driver, when a command line holds the other ends.

    A line `stop` or `terminate` asks the run to end in an orderly way; `kill`, or the end of the input since the
    command line is gone, ends this process at once. Workers are owned by it and go with it.
    """

    def __init__(self, *, held: bool) -> None:
        self._held = held
        self.exit_code = INTERRUPTED
        self.stopping = threading.Event()
        self._speaking = threading.Lock()
        # Ray writes to standard output as it likes; from here on that goes where errors go, and the lines are ours.
        self._out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        if held:
            threading.Thread(target=self._listen, name="leash", daemon=True).start()

    def terminate(self, *_: object) -> None:
        """Take SIGTERM, which is how a cluster asks, or a request in the output."""
        self._stop(TERMINATED)

    def say(self, text: str) -> None:
        """Something a person following the run wants to know."""
        self._send({"event": "say", "text": text})

    def status(self, status: Mapping[str, Any]) -> None:
        """How far the run is, to whoever holds the leash; all others read it from the store, not from a log."""
        if self._held:
            self._send({"event": "status", "status": status})

    def image(self, finding: Mapping[str, Any]) -> None:
        """What an image that was made again is like."""
        self._send({"event": "image", "image": finding})

    def fail(self, error: LightmillError) -> None:
        """Why the run ends."""
        self._send({"event": "error", "problems": [problem.to_dict() for problem in error.problems]})

    def end(self, exit_code: int, outcome: Mapping[str, Any]) -> None:
        """The last word."""
        self._send({"event": "end", "exit_code": exit_code, **outcome})

    def _send(self, event: Mapping[str, Any]) -> None:
        with self._speaking:
            self._out.write(json.dumps(event, ensure_ascii=False) + "\n")
            self._out.flush()

    def _listen(self) -> None:
        for line in sys.stdin:
            if line.strip() not in ORDERLY:
                break
            self.say("stopping after the batch that runs; once more (Ctrl-C) stops at once")
            self._stop(ORDERLY[line.strip()])
        os._exit(INTERRUPTED)

    def _stop(self, exit_code: int) -> None:
        self.exit_code = exit_code
        self.stopping.set()
