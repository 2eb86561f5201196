"""Schedules on real parts: many who run one slot at once, and a real cron that reads our line and keeps to it."""

import json
import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from actors.storage.opening import open_bucket
from checker import check
from mill import RUN_S, Job, make_job
from processes import Child, lightmill, wait_until

pytestmark = pytest.mark.xdist_group("schedules")
AT_ONCE = 20
PAGE = Path(__file__).parents[2] / "docs" / "schedule.md"
FIRED_S = 360
"""cron looks once a minute, and then Ray has to start."""


def scheduled(folder: Path, **fields) -> Job:
    return make_job(folder, [f"a cat, number {n}" for n in range(12)], output=str(folder / "out" / "{slot}"), **fields)


def run_words(job: Job, cron: str, *flags: str) -> list:
    return lightmill("schedule", "run", job.file, "--name", "nightly", "--cron", cron, *flags)


CALLS_AT_ONCE = """
import os, sys
from pathlib import Path
import cluster.child, cluster.cli.generate, cluster.cli.scheduling, cluster.schedule.firing, jobs.order, pyarrow.parquet
from cluster.cli.app import main

go, start = os.pipe()
pids = []
for number in range(int(sys.argv[1])):
    pids.append(os.fork())
    if not pids[-1]:
        os.close(start)
        for descriptor, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{number}.{name}", os.O_CREAT | os.O_WRONLY), descriptor)
        os.read(go, 1)  # until all are there
        main(sys.argv[2:])
os.close(start)
for number, pid in enumerate(pids):
    Path(f"{number}.status").write_text(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))
"""
"""Each a process of its own. What all of them need is imported once, so that they come together."""


def test_many_submissions_of_one_slot_are_one_run(tmp_path):
    """All but one end with the lease's answer, or with the word that it is done."""
    job = scheduled(tmp_path, workers={"min": 1, "max": 1}, model="fake:pace=0.3")
    words = run_words(job, "0 2 * * *", "--slot", "2026-11-27T02:00", "--json")
    with Child([sys.executable, "-c", CALLS_AT_ONCE, str(AT_ONCE), *words[1:]], tmp_path) as calls:
        assert calls.wait(RUN_S) == 0, calls
    said = [[(tmp_path / f"{number}.{of}").read_text() for of in ("status", "out", "err")] for number in range(AT_ONCE)]
    ((_, made, _),) = [one for one in said if '"slots": [{' in one[1]]
    for status, out, told in said:
        if out != made:
            answers = {"1": "[LM1311]: a slot of nightly is being made already", "0": "is done: nothing was started"}
            assert answers[status] in told
    (outcome,) = json.loads(made)["slots"]
    assert (outcome["slot"], outcome["exit_code"]) == ("20261127T0200Z", 0)
    check(job.of_slot("20261127T0200Z"))
    assert len(job.painted()) == len(set(job.painted())) == 12
    with Child(words, tmp_path) as again:
        assert again.wait(RUN_S) == 0
    assert "is done: nothing was started" in again.stderr
    assert json.loads(again.stdout)["slots"] == []


PRIVATE_CRON = """
mount --bind $1/spool /var/spool/cron && mount --bind $1/empty /etc/cron.d && mount --bind /dev/null /etc/crontab &&
"$2" schedule add "$3" --name every --cron "* * * * *" --to cron && crontab -l && exec cron -f -n
"""
"""With a spool of the test's own, and nobody else's tables."""


def private_cron(folder: Path, job: Job) -> list:
    (folder / "spool" / "crontabs").mkdir(parents=True)
    (folder / "empty").mkdir()
    program = Path(sys.executable).with_name("lightmill")
    return ["unshare", "--mount", "sh", "-c", PRIVATE_CRON, "sh", folder, program, job.file]


def may_have_cron() -> bool:
    """Whether there is a cron, and the right to give it a spool that nobody else sees."""
    return bool(shutil.which("cron")) and not subprocess.run(["unshare", "--mount", "true"], check=False).returncode


@pytest.mark.skipif(not may_have_cron(), reason="needs cron, and the right to a mount namespace")
@pytest.mark.timeout(500)
def test_cron_reads_our_line_and_keeps_to_it(tmp_path):
    job = scheduled(tmp_path, workers={"min": 1, "max": 1})
    with Child(private_cron(tmp_path, job), tmp_path, env={"XDG_STATE_HOME": str(tmp_path)}) as cron:
        listed = cron.wait_for_line(r"^\* \* \* \* \* .*lightmill schedule run", 60, "stdout")
        assert str(job.file) in listed
        ledger = open_bucket(str(tmp_path / "out" / "schedules" / "every"))
        wait_until(lambda: list(ledger.list("slots/")), FIRED_S, f"a slot to be made by {cron}")
    (first, *_) = ledger.list("slots/")
    outcome = json.loads(ledger.get(first.key))
    assert outcome["exit_code"] == 0
    planned = datetime.fromisoformat(outcome["planned"])
    assert timedelta(0) <= datetime.fromisoformat(outcome["begun_at"]) - planned < timedelta(minutes=1)
    assert datetime.now(UTC) - planned < timedelta(minutes=10)
    log = (tmp_path / "lightmill" / "every.log").read_text()
    assert re.search(r"slot every of \d{4}-\d\d-\d\d \d\d:\d\d UTC", log)
    check(job.of_slot(outcome["slot"]))


def page_blocks(kind: str) -> list:
    """Name and text of the page's fenced blocks of a kind."""
    return re.findall(rf"^```{kind} ?(\S*)\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def test_the_commands_of_the_page_say_what_it_shows(tmp_path):
    """All but those of Docker and kubectl, for which there is no cluster here."""
    ((name, job),) = page_blocks("yaml")
    (tmp_path / name).write_text(job)
    (tmp_path / "captions.csv").write_text("prompt\na\nb\nc\n")
    place = {"prompts": "s3://in/captions.csv", "output": "s3://datasets/cats/{date}"}
    (tmp_path / "cats.yaml").write_text(yaml.safe_dump({**yaml.safe_load(job), **place}))
    commands = "".join(text for _, text in page_blocks("sh"))
    ours = re.findall(r"^lightmill (?:[^\\\n]|\\\n)*", commands, re.MULTILINE)
    assert len(ours) == commands.count("lightmill schedule") == 5
    script = "set -eu\n" + "\n".join(ours)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with Child(["bash", "-c", script], tmp_path, env={"PATH": path}) as child:
        assert child.wait(RUN_S) == 0, child
    said = (child.stdout + child.stderr).splitlines()
    assert [line for _, text in page_blocks("text") for line in text.splitlines() if line not in said] == []
    (output,) = (path for path in (tmp_path / "cats").iterdir() if path.name != "schedules")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", output.name)
    assert "kind: RayCronJob" in (tmp_path / "manifest.yaml").read_text()


PRIVATE_SYSTEMD = """
mount -t tmpfs none /run && mkdir -p /run/systemd/system "$XDG_RUNTIME_DIR" && mount -t proc proc /proc || exit 1
/lib/systemd/systemd --user --log-target=console &
until systemctl --user is-system-running; do sleep 0.2; done
"$1" schedule add "$2" --name every --cron "* * * * *" --to systemd && systemctl --user list-timers && wait
"""
"""A manager of the test's own, which takes the machine for one that systemd has started."""


def may_have_systemd() -> bool:
    """Whether there is a systemd, and the right to start one that nobody else sees."""
    command = [
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "test",
        "-x",
        "/lib/systemd/systemd",
        "-a",
        "-w",
        "/sys/fs/cgroup",
    ]
    return bool(shutil.which("systemctl")) and not subprocess.run(command, check=False).returncode


@pytest.mark.skipif(not may_have_systemd(), reason="needs systemd, and the right to namespaces")
@pytest.mark.xdist_group("systemd")
@pytest.mark.timeout(500)
def test_a_timer_of_systemd_fires(tmp_path):
    job = scheduled(tmp_path, workers={"min": 1, "max": 1})
    program = Path(sys.executable).with_name("lightmill")
    command = ["unshare", "--mount", "--pid", "--fork", "sh", "-c", PRIVATE_SYSTEMD, "sh", program, job.file]
    env = {"XDG_RUNTIME_DIR": "/run/user/0", "XDG_CONFIG_HOME": str(tmp_path / "config")}
    with Child(command, tmp_path, env=env) as systemd:
        systemd.wait_for_line(r"lightmill-every\.timer +lightmill-every\.service", 60, "stdout")
        ledger = open_bucket(str(tmp_path / "out" / "schedules" / "every"))
        wait_until(lambda: list(ledger.list("slots/")), FIRED_S, f"a slot to be made by {systemd}")
    (first, *_) = ledger.list("slots/")
    outcome = json.loads(ledger.get(first.key))
    late = datetime.fromisoformat(outcome["begun_at"]) - datetime.fromisoformat(outcome["planned"])
    assert (outcome["exit_code"], timedelta(0) <= late < timedelta(minutes=2)) == (0, True)
    check(job.of_slot(outcome["slot"]))
