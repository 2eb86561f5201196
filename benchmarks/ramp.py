"""How long until every GPU of a cluster is at work: from a machine that is up to the first image of its worker.

`python -m benchmarks.ramp`. A Ray cluster on this machine: a head that takes no work, and four machines with one
pretended GPU each, which join while the job already waits for them, as an autoscaler would have it: one after the
other, since on one machine they would take each other's ports. The model is `fake`, which takes ten seconds to load and
then half a second an image. Allowed: ten seconds beside the load.
"""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

from benchmarks.timing import print_table, write_results

MACHINES = 4
LOAD_SECONDS = 10.0
IMAGES = 400
LONGEST_SECONDS = 300.0
BIN = Path(sys.executable).parent
ENVIRONMENT = {
    **os.environ,
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
    "RAY_USAGE_STATS_ENABLED": "0",
}


@contextmanager
def running(command: list[str | Path], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A command in a group of its own, which ends with the `with`."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=ENVIRONMENT, start_new_session=True)
        try:
            yield process
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(60)


def wait(condition: Callable[[], bool], what: str) -> float:
    """When it first holds."""
    deadline = time.monotonic() + LONGEST_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited {LONGEST_SECONDS:.0f} s for {what}"
        time.sleep(0.02)
    return time.monotonic()


def free_port() -> int:
    """A port that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def start(address: str, *flags: str) -> list[str | Path]:
    """The command of one machine."""
    common = ["--node-ip-address=127.0.0.1", "--object-store-memory=134217728", "--block"]
    return [BIN / "ray", "start", address, *common, *flags]


def says(log: Path, words: str) -> bool:
    """Whether a command has said so."""
    return words in log.read_text(errors="replace")


def measure(folder: Path) -> list[float]:
    """Seconds from each machine that is up to its worker's first image, the shortest first."""
    journal, address = folder / "journal", f"127.0.0.1:{free_port()}"
    journal.touch()
    job = {
        "prompts": str(folder / "prompts.csv"),
        "output": str(folder / "out"),
        "shard_size": 10,
        "models": [
            {
                "model": f"fake:load={LOAD_SECONDS},pace=0.5,journal={journal}",
                "width": 64,
                "height": 64,
                "batch_size": 1,
                "gpus_per_worker": 1,
                "workers": {"max": MACHINES},
            }
        ],
    }
    (folder / "job.yaml").write_text(json.dumps(job))
    (folder / "prompts.csv").write_text("prompt\n" + "".join(f"fox {number}\n" for number in range(IMAGES)))
    up: list[float] = []
    with ExitStack() as stack:
        head = start("--head", f"--port={address.rpartition(':')[2]}", "--num-cpus=0", "--include-dashboard=false")
        stack.enter_context(running(head, folder / "head"))
        wait(lambda: says(folder / "head", "Ray runtime started"), "the head")
        run = [BIN / "lightmill", "run", folder / "job.yaml", "--address", address]
        stack.enter_context(running(run, folder / "run"))
        wait(lambda: asked_for(folder / "out" / "status.json") == MACHINES, "the driver to ask for workers")
        seen = stack.enter_context(watching(journal))
        for number in range(MACHINES):
            log = folder / f"machine{number}"
            command = start(f"--address={address}", "--num-cpus=2", "--num-gpus=1")
            stack.enter_context(running(command, log))
            up.append(wait(lambda log=log: says(log, "Ray runtime started"), log.name))  # type: ignore[misc]
        wait(lambda: len(seen) == MACHINES, "the last worker")
        return sorted(first - began for first, began in zip(sorted(seen.values()), up, strict=True))


@contextmanager
def watching(journal: Path) -> Iterator[dict[str, float]]:
    """When each process began its first image, found out in a thread."""
    seen: dict[str, float] = {}
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            for process in painters(journal):
                seen.setdefault(process, time.monotonic())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def asked_for(status: Path) -> int:
    """How many workers the driver wants."""
    return int(json.loads(status.read_text())["workers_wanted"]) if status.exists() else 0


def painters(journal: Path) -> set[str]:
    """The processes that have begun an image."""
    return {line.split()[1] for line in journal.read_text().splitlines() if line.count(" ") == 1}


def main() -> None:
    """Measure, print, write."""
    with tempfile.TemporaryDirectory(prefix="ramp-") as folder:
        seconds = measure(Path(folder))
    facts = {"machines": MACHINES, "load_s": LOAD_SECONDS, "median_s": median(seconds), "worst_s": seconds[-1]}
    facts["worst_beside_the_load_s"] = seconds[-1] - LOAD_SECONDS
    rows = [{name: round(value, 2) for name, value in facts.items()}]
    print_table(rows)
    write_results("ramp", rows)


if __name__ == "__main__":
    main()
