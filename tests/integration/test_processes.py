"""Child processes of tests are seen, can be killed and frozen, and never outlive their test."""

import os
import signal
import subprocess
import sys

import psutil
import pytest

from processes import Child, lightmill, python_module, wait_until

DETACHED = """
import subprocess, sys
daemon = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)  # daemon"], start_new_session=True)
print(daemon.pid, flush=True)
"""


def script(source: str) -> list[str]:
    return [sys.executable, "-u", "-c", source]


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid)


def test_output_and_status_are_captured(spawn):
    child = spawn(
        script("import os, sys; print('out'); print(os.environ['X'], file=sys.stderr); sys.exit(3)"), env={"X": "e"}
    )
    assert child.wait(10) == 3
    assert (child.stdout, child.stderr) == ("out\n", "e\n")


def test_modules_and_the_command_line_can_be_run(spawn):
    assert spawn(python_module("json.tool", os.devnull)).wait(10) == 1
    assert lightmill("plan")[0].name == "lightmill"


def test_a_command_that_is_not_there_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="no-such-command"):
        Child(["no-such-command"], tmp_path)


def test_a_line_is_waited_for(spawn):
    child = spawn(script("import time; print('begin'); time.sleep(0.2); print('shard 7 done'); time.sleep(600)"))
    assert child.wait_for_line(r"shard \d", 10, "stdout") == "shard 7 done"
    assert child.returncode is None


def test_waiting_for_a_line_ends_with_the_command(spawn):
    with pytest.raises(AssertionError, match="ended with 0 and never said"):
        spawn(script("print('other')")).wait_for_line("shard", 60, "stdout")


def test_waiting_is_bounded(spawn):
    child = spawn(script("import time; time.sleep(600)"))
    with pytest.raises(AssertionError, match=r"waited 0\.1 s"):
        child.wait(0.1)
    with pytest.raises(AssertionError, match=r"waited 0\.1 s"):
        child.wait_for_line("x", 0.1)


def test_a_daemon_is_found_after_its_parent_has_gone_and_ends_with_the_test(tmp_path):
    with Child(script(DETACHED), tmp_path) as child:
        assert child.wait(10) == 0
        daemon = child.wait_for_descendant("# daemon", 10)
        assert daemon.pid == int(child.stdout)
    assert is_gone(daemon.pid)


def test_kill_takes_the_command_alone(tmp_path):
    with Child(script(DETACHED + "import time; time.sleep(600)"), tmp_path) as child:
        daemon = child.wait_for_descendant("# daemon", 10)
        child.kill()
        assert child.returncode == -signal.SIGKILL
        assert daemon.is_running()
    assert is_gone(daemon.pid)
    assert is_gone(child.pid)


def test_a_frozen_command_does_nothing_until_thawed(spawn):
    child = spawn(script("import time\nwhile True: print('tick'); time.sleep(0.01)"))
    child.wait_for_line("tick", 10, "stdout")
    child.freeze()
    wait_until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_STOPPED, 10, "the command to stop")
    ticks = len(child.stdout)
    child.thaw()
    wait_until(lambda: len(child.stdout) > ticks, 10, "the command to go on")


def test_a_frozen_command_ends_with_its_test(tmp_path):
    with Child(script("import time; time.sleep(600)"), tmp_path) as child:
        child.freeze()
    assert is_gone(child.pid)


def test_interrupt_is_a_ctrl_c(spawn):
    child = spawn(script("import time; print('ready'); time.sleep(600)"))
    child.wait_for_line("ready", 10, "stdout")
    child.interrupt()
    assert child.wait(10) == -signal.SIGINT


def test_nothing_survives_a_killed_test_process(tmp_path):
    """A stand-in for pytest starts a command that detaches a daemon, and is killed with SIGKILL."""
    command = [sys.executable, "-c", DETACHED + "import time; time.sleep(600)"]
    source = (
        f"import sys, time; sys.path[:0] = {[p for p in sys.path if p]!r}\n"
        "from pathlib import Path; from processes import Child\n"
        f"child = Child({command!r}, Path({str(tmp_path)!r}))\n"
        "daemon = child.wait_for_descendant('# daemon', 10)\n"
        "print(child.pid, daemon.pid, flush=True); time.sleep(600)\n"
    )
    with subprocess.Popen(script(source), stdout=subprocess.PIPE, text=True) as tests:
        pids = [int(word) for word in tests.stdout.readline().split()]
        assert len(pids) == 2
        tests.kill()
    for pid in pids:
        wait_until(lambda pid=pid: is_gone(pid), 10, f"process {pid} to end")
