"""Guard: a process beside the driver that ends what a killed driver leaves of its private Ray.

Most of it ends by itself within a second. The agents of the raylet do not: for a minute they try to tell the GCS, which
is gone as well, that their raylet is gone.

Runs as a script, before anything is imported that takes its time, and ends when its standard input does.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

PAUSE_SECONDS = 0.05


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """While this lasts, and after it, nothing that this process starts outlives it.

    Only where this process leads a session, as drivers do that the command line starts: what is in it is then ours.
    """
    if sys.platform != "linux" or os.getsid(0) != os.getpid():
        yield
        return
    with subprocess.Popen([sys.executable, "-I", "-S", __file__], stdin=subprocess.PIPE) as guard:
        try:
            yield
        finally:
            assert guard.stdin is not None
            guard.stdin.close()
            guard.wait()


def main() -> None:
    """Wait for the end, and for the driver to be gone or done with Ray; then end all else in its session."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.stdin.buffer.read()
    while others := list(_others(os.getsid(0))):
        for pid in others:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(PAUSE_SECONDS)


def _others(session: int) -> Iterator[int]:
    """All living processes of the session but its leader and this one."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal() or int(folder.name) in (session, os.getpid()):
            continue
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            state, _, _, its_session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(its_session) == session and state != "Z":
                yield int(folder.name)


if __name__ == "__main__":
    main()
