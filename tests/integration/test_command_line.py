"""The command line with a real driver below it: the demo, Ctrl-C, SIGTERM, a terminal."""

import os
import pty
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

from builders import drive
from checker import check
from commands import lightmill
from mill import START_S, make_job

CATS = [f"a cat, number {number}" for number in range(60)]


def test_the_demo_twice_and_what_it_says_to_type_next(tmp_path):
    """The second time everything is there, so that no Ray is started. The commands are taken as they are printed."""
    tool = Path(sys.executable).with_name("lightmill")
    environment = {**os.environ, "PATH": f"{tool.parent}:{os.environ['PATH']}"}

    def demo():
        done = subprocess.run(
            ["lightmill", "demo"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stderr

    first, second = demo(), demo()
    assert "24 images ok, 0 failed" in first
    assert "once a worker was ready" in first
    assert "everything is already there: nothing was generated" in second
    assert len(list((tmp_path / "demo-output" / "images").rglob("*.webp"))) == 24
    for said in (first, second):
        assert "images    demo-output/images/" in said
    verify, again = [line.strip() for line in second.partition("next:\n")[2].splitlines()]
    done = subprocess.run(
        verify, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "sound\n")
    prompts = shlex.split(again)[shlex.split(again).index("--prompts") + 1]
    assert "images      96 in" in lightmill("plan", *shlex.split(again)[2:]).out
    assert Path(prompts).is_file()


def test_stopping_and_going_on(tmp_path):
    """Ctrl-C, SIGTERM and an impatient second Ctrl-C, and each time the same command goes on."""
    job = make_job(tmp_path, CATS, model="fake:pace=0.1", shard_size=8, batch_size=2)
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        with job.start() as run:
            run.wait_until_painted(4)
            run.child.interrupt(number)
            outcome = run.end(status)
        assert outcome == {}
        assert "stopping after the batch that runs" in run.child.stderr
        assert "stopped; `lightmill run` with the same job makes what is missing" in run.child.stderr
        assert lightmill("status", job.output).out.startswith("job  stopped: ")
    with job.start() as run:
        run.wait_until_painted(1)
        run.child.interrupt()
        run.child.wait_for_line("once more", START_S)
        run.child.interrupt()
        run.end(130)
    assert "stopped" in run.child.stderr
    assert "Traceback" not in run.child.stderr
    assert drive(job.spec).ends[-1][0] == 0
    check(job)


def test_two_models_on_a_terminal_draw_a_bar_and_leave_a_summary(tmp_path):
    """Each makes every row, several times, with an object for each image."""
    models = [{"model": f"fake:pace={pace}", "width": 32, "height": 32} for pace in (0, 0.05)]
    job = make_job(tmp_path, CATS[:30], models=models, images_per_prompt=2, sink="files", shard_size=16)
    status, text = on_a_terminal([Path(sys.executable).with_name("lightmill"), "run", job.file])
    assert status == 0
    assert re.search(r"running \S* ?\S* ?\d+/120 [\d.]+ images/s", text), text
    assert "\r\n  in all      120 images ok, 0 failed" in text
    assert text.rstrip().splitlines()[-1].startswith("  workers     ")
    assert check(job).ok == 30 * 2 * 2


def on_a_terminal(command):
    """Its exit status, and what it draws, without the colours."""
    ours, theirs = pty.openpty()
    said = b""
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "110"}
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, stdin=theirs, env=environment) as process:
        os.close(theirs)
        try:
            while piece := os.read(ours, 65536):
                said += piece
        except OSError:  # how Linux says that nobody holds the other end any more
            os.close(ours)
    return process.returncode, re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said.decode())
