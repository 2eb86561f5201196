"""A laptop: a folder with an environment of its own, in which the wheel of this checkout is installed and no worker's
library, and somebody there who sends a job to a cluster and looks away."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from fleet import Fleet
from mill import RUN_S, START_S, Job
from processes import Child, wait_until

ROOT = Path(__file__).parents[1]
OF_WORKERS = ("torch", "diffusers", "transformers")
KEPT = ("PATH", "HOME", "LANG", "PIP_CACHE_DIR")


@dataclass(frozen=True)
class Laptop:
    """With the token of a cluster and keys of the store, as `docs/submit.md` wants it."""

    folder: Path
    fleet: Fleet

    def run(self, *words: str | Path) -> Child:
        """Its command line, with nothing of the tests in its environment."""
        ours = {name: os.environ[name] for name in os.environ if name in KEPT or name.startswith("AWS_")}
        found = {**ours, **self.fleet.cluster.environment, "RAY_API_SERVER_ADDRESS": self.fleet.cluster.jobs_url}
        variables = [f"{name}={value}" for name, value in found.items()]
        return Child(["env", "-i", *variables, self.folder / "venv" / "bin" / "lightmill", *words], self.folder)

    def say(self, *words: str | Path, status: int = 0) -> Child:
        """A command to its end."""
        with self.run(*words) as child:
            assert child.wait(RUN_S) == status, f"{child}\n{child.stdout}"
        return child


def install(folder: Path) -> None:
    """What `pip install lightmill` brings, by pip, and none of what workers need."""
    python = folder / "venv" / "bin" / "python"
    constraints = ("--constraint", ROOT / "constraints.txt")
    for command in (
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT],
        [sys.executable, "-m", "venv", folder / "venv"],
        [python, "-m", "pip", "install", "--quiet", "--find-links", folder, *constraints, "lightmill"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
        assert done.returncode == 0, done.stderr
    absent = subprocess.run([python, "-c", f"import {', '.join(OF_WORKERS)}"], capture_output=True, check=False)
    assert b"ModuleNotFoundError" in absent.stderr


def leave_to_cluster(laptop: Laptop, job: Job) -> None:
    """Sent, detached from, followed from another process, stopped, sent again to the end, and verified."""
    images = len(job.file.with_name("prompts.jsonl").read_text().splitlines())
    laptop.say("submit", job.file, "--preflight")
    (sent,) = laptop.say("submit", job.file).stdout.split()
    with laptop.run("attach", job.output) as attached:
        attached.wait_for_line("images/s", START_S)
        attached.interrupt()
        assert attached.wait(START_S) == 130, attached
        assert f"lightmill attach {job.output}" in attached.stderr
    seen = len(job.painted())
    with laptop.run("logs", job.output, "--follow", "--json") as followed:
        wait_until(lambda: len(job.painted()) > seen + images // 8, START_S, f"it to go on by itself: {followed}")
        status = json.loads(laptop.say("status", job.output, "--json").stdout)
        assert (status["state"], status["submission"], status["workers"]) == (
            "running",
            sent,
            len(laptop.fleet.machines),
        )
        laptop.say("stop", job.output)
        assert followed.wait(START_S) == 0, followed
        assert all(json.loads(line)["message"] for line in followed.stdout.splitlines())
    stopped = json.loads(laptop.say("status", job.output, "--json").stdout)
    assert (stopped["state"], stopped["exit_code"]) == ("stopped", 143)
    assert 0 < stopped["committed"] < images
    again = json.loads(laptop.say("submit", job.file, "--wait", "--json").stdout)
    assert (again["totals"]["ok"], again["made"]) == (images, images - stopped["committed"])
    laptop.say("verify", job.output)
