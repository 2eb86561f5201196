"""Runs one command and stays behind to end whatever it leaves: every descendant, however it was detached.

    python -I -S nursery.py STDOUT STDERR COMMAND...

Prints the command's pid and later its exit status. As a subreaper it inherits orphans, daemons with their own session
included, which is what a process group or PR_SET_PDEATHSIG would miss. When its standard input closes, because the
test is over or because the test process died in any way at all, it kills its children until none is left. Linux only.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36


def main(stdout: str, stderr: str, *command: str) -> None:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    with Path(stdout).open("ab") as out, Path(stderr).open("ab") as err:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True)
    report(child.pid)
    while True:
        readable, _, _ = select.select([sys.stdin, woken], [], [])
        if woken in readable:
            os.read(woken, 4096)
            reap(child.pid)
        if sys.stdin in readable:
            return end_all()


def reap(command: int) -> None:
    """Take the exit status of whoever ended, and report the command's own."""
    while (ended := wait(os.WNOHANG)) and ended[0]:
        if ended[0] == command:
            report(os.waitstatus_to_exitcode(ended[1]))


def report(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def end_all() -> None:
    """A killed child's own children become ours before it can be waited for, so nobody slips through."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    while True:
        for pid in children.read_text().split():
            os.kill(int(pid), signal.SIGKILL)
        if wait(0) is None:
            return


def wait(flags: int) -> tuple[int, int] | None:
    """(pid, status) of a child, pid 0 if none has ended yet; None when there are no children."""
    try:
        return os.waitpid(-1, flags)
    except ChildProcessError:
        return None


if __name__ == "__main__":
    main(*sys.argv[1:])
