"""Runs jobs in child processes that may die, without paying for imports each time: it imports once and forks.

    python crash_runner.py

Reads tasks as JSON lines, two at a time, and answers each with a line: `{"id": ..., "status": ...}`. A task says what
to do (`run`, `retry` or `clean`) with which spec, where to die, and on what kind of store.
"""

import gc
import json
import os
import select
import sys
import time
from pathlib import Path

import pyarrow as pa

import jobs.promise
import jobs.run
from actors import crash
from actors.storage import folder_upload, opening
from actors.tables import rewrite
from builders import drive
from jobs import claims, clean, lease
from jobs.manifest import Manifest
from jobs.spec import JobSpec
from thread_pool import ThreadPool
from weak_bucket import WeakBucket

AT_ONCE = 2
IGNORED_SHARE = {"strong": None, "racy": 0.3, "ignoring": 1.0}
"""Of preconditions, by the kind of store."""


def main() -> None:
    pa.array([0])  # the first list makes pyarrow import pandas, which is half of a whole run
    gc.freeze()  # or every child would copy what it does not change
    waiting, children, heard, ended = [], {}, b"", False
    while waiting or children or not ended:
        if not ended and select.select([0], [], [], 0 if waiting or children else None)[0]:
            piece = os.read(0, 65536)
            ended = not piece
            *lines, heard = (heard + piece).split(b"\n")
            waiting += map(json.loads, lines)
        while waiting and len(children) < AT_ONCE:
            task = waiting.pop(0)
            children[start(task)] = task
        if children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid:
                answer = {"id": children.pop(pid)["id"], "status": os.waitstatus_to_exitcode(status)}
                sys.stdout.write(json.dumps(answer) + "\n")
                sys.stdout.flush()
            else:
                time.sleep(0.005)


def start(task: dict) -> int:
    """Fork; the child does the task and never returns."""
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        if task.get("wait"):  # until the other one is there, too
            while time.time() < task["wait"]:
                time.sleep(0.001)
        status = work(task)
    finally:
        sys.stderr.flush()
        os._exit(status)


def work(task: dict) -> int:
    crash._armed.update({task["point"]: task["occurrence"]} if task.get("point") else {})
    spec = JobSpec.model_validate(task["spec"])
    make_quick(task.get("kind", "strong"), task.get("ttl", 30.0))
    log = Path(task["log"])

    def note(line: str) -> None:
        with log.open("a") as file:
            file.write(f"{os.getpid()} {line}\n")

    if task["do"] == "clean":
        bucket = opening.open_bucket(spec.output)
        manifest = Manifest.load(bucket)
        with lease.Lease(bucket, manifest.store, "clean") as held:
            for leftover in list(clean.find_leftovers(bucket, manifest)):
                clean.remove(bucket, leftover, held.require)
        return 0
    pool = ThreadPool(assigned=lambda order: note(f"made {order.shard.index}"))
    leash = drive(spec, pool, purpose=task["do"], check="none")
    for error in leash.errors:
        note(f"error {error.code} {error.problems[0].message}")
    note(f"end {leash.ends[-1][0]}")
    return leash.ends[-1][0]


def make_quick(kind: str, ttl: float) -> None:
    """No power fails in these tests, nobody is far away, and files are small: seconds become hundredths."""
    os.fsync = lambda descriptor: None
    folder_upload.CHUNK_BYTES = 2048
    rewrite.MAX_GROUP_ROWS = 8
    rewrite.PART_GROUPS = 1
    jobs.promise.probe = lambda bucket: kind
    lease.CANDIDACY_SECONDS = 0.3
    lease.LOOK_SECONDS = 0.1
    share = IGNORED_SHARE[kind]
    if share is not None:
        open_bucket = jobs.run.open_bucket
        jobs.run.open_bucket = lambda *words, **named: WeakBucket(open_bucket(*words, **named), share)
    if ttl != 30.0:
        scale = ttl / 30.0
        claims.TTL_SECONDS = ttl
        claims.CLOCK_MARGIN *= scale
        for name in ("RENEW_SECONDS", "LATE_SECONDS", "EXPIRED_SECONDS"):
            setattr(lease, name, getattr(lease, name) * scale)


if __name__ == "__main__":
    main()
