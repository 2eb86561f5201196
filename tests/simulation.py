"""A store, its clock and several drivers, of which a test decides who does its next request, and what becomes of it.

Every driver runs the real code in threads of its own, of which one at a time is awake: each request to the store is a
gate at which it waits until the test lets it through. A driver that is not let through is frozen; one that is killed
never gets past its gate. So any interleaving can be played, and the same one again.
"""

import io
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pyarrow.parquet as pq

from actors import metadata
from actors.errors import LightmillError, PreconditionFailed, Problem
from actors.storage.bucket import ObjectInfo
from builders import make_report, replace_store
from jobs import clean, index
from jobs.catalog import Catalog
from jobs.commit import Committer
from jobs.lease import Lease, LeaseLost
from jobs.manifest import Manifest
from jobs.retry import find_failures
from jobs.timer import Timer
from memory_bucket import MemoryBucket

EPOCH = datetime(2030, 1, 1, tzinfo=UTC)
REQUEST_SECONDS = 0.01
GIVEN_UP_SECONDS = 5.0
"""Until a client takes a request for lost, and sends it again."""
WEAK_DELAY_SECONDS = 10.0


class Killed(BaseException):
    """The process is gone: nothing of it runs any more."""


class World:
    """The store as it is, the time, and a record of everything that must never happen."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.seconds = 0.0
        self.store = MemoryBucket(now=self.clock)
        self.late: list[tuple[float, Callable[[], object]]] = []
        self.tasks: dict[int, Task] = {}
        self.wrongs: list[str] = []

    def clock(self) -> datetime:
        return EPOCH + timedelta(seconds=self.seconds)

    def advance(self, seconds: float) -> None:
        self.seconds += seconds
        due = [write for deadline, write in self.late if deadline <= self.seconds]
        self.late = [entry for entry in self.late if entry[0] > self.seconds]
        for write in due:
            write()

    def land(self) -> None:
        """The oldest of the writes that are still on their way arrives."""
        if self.late:
            self.late.pop(0)[1]()

    def put(self, key: str, data: bytes, *, if_absent: bool, if_match: str | None) -> ObjectInfo:
        """What the store does with a write, whoever sent it, whenever it arrives."""
        old = self.store.objects.get(key)
        settled = old is not None and self.clock() - self.store.modified[key] > timedelta(seconds=2)
        if self.kind == "ignoring" or (self.kind == "racy" and not settled):
            if_absent, if_match = False, None
        info = self.store.put(key, data, if_absent=if_absent, if_match=if_match)
        if old is not None and old != data:
            self._check_change(key, old, data)
        if key.startswith("metadata/"):
            for file in metadata.read_header(data).files:
                found = self.store.objects.get(file.file)
                if found is None or len(found) != file.bytes:
                    self.wrongs.append(f"{key} was written, and its {file.file} is not there")
        return info

    def delete(self, key: str) -> None:
        if key.startswith("images/") and key in self._referenced():
            self.wrongs.append(f"{key} was removed, and committed metadata names it")
        if key.startswith("metadata/") or key == "manifest.json":
            self.wrongs.append(f"{key} was removed")
        self.store.delete(key)

    def _check_change(self, key: str, old: bytes, new: bytes) -> None:
        if key == "manifest.json" or key.startswith(("images/", "prompts/")):
            self.wrongs.append(f"{key} was changed")
        elif key.startswith("metadata/"):
            before, after = metadata.read_header(old), metadata.read_header(new)
            if after.replaces != before.attempt:
                self.wrongs.append(f"{key} of {before.attempt} was overwritten by {after.attempt}")

    def _referenced(self) -> set[str]:
        headers = (metadata.read_header(self.store.objects[key]) for key in self.keys("metadata/"))
        return {file.file for header in headers for file in header.files}

    def keys(self, prefix: str) -> list[str]:
        return [key for key in sorted(self.store.objects) if key.startswith(prefix)]


class Task:
    """A thread that goes on only while it is let."""

    def __init__(self, world: World, work: Callable[[], None]) -> None:
        self.world = world
        self.wakes = 0.0
        self.done = False
        self.killed = False
        self._work = work
        self._go = threading.Semaphore(0)
        self._stands = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._stands.acquire()

    def step(self) -> None:
        """To its next gate, or its end."""
        if not self.done:
            self._go.release()
            self._stands.acquire()

    def kill(self) -> None:
        self.killed = True
        while not self.done:
            self.step()

    def gate(self) -> None:
        self._stands.release()
        self._go.acquire()
        if self.killed:
            raise Killed

    def _run(self) -> None:
        self.world.tasks[threading.get_ident()] = self
        with suppress(Killed):
            self.gate()
            self._work()
        del self.world.tasks[threading.get_ident()]  # which another thread may get
        self.done = True
        self._stands.release()


class SimTimer(Timer):
    """The world's time; who sleeps is woken by it."""

    def __init__(self, world: World) -> None:
        self._world = world

    def now(self) -> float:
        return self._world.seconds

    def sleep(self, seconds: float) -> None:
        task = self._world.tasks[threading.get_ident()]
        task.wakes = self._world.seconds + seconds
        task.gate()


class SimBucket:
    """The store as one driver reaches it."""

    def __init__(self, world: World) -> None:
        self.url = "sim://out"
        self.world = world
        self.at = ""
        """The request that waits at the gate."""
        self.mishap = ""
        """Of the next write: `reply` is lost, or the request is `late` and sent again meanwhile."""

    def _request(self, what: str, key: str = "") -> None:
        task = self.world.tasks.get(threading.get_ident())
        if task is not None:  # the readers of an index are threads of their own: they go as their driver goes
            self.at = f"{what} {key}"
            task.gate()
            self.at = ""
            self.world.advance(REQUEST_SECONDS)

    def get(self, key):
        self._request("get", key)
        return self.world.store.get(key)

    def open(self, key):
        return io.BytesIO(self.get(key))

    def head(self, key):
        """As HTTP dates are: whole seconds."""
        self._request("head", key)
        info = self.world.store.head(key)
        return info and replace(info, modified=info.modified.replace(microsecond=0))

    def list(self, prefix=""):
        self._request("list", prefix)
        return iter(list(self.world.store.list(prefix)))

    def now(self):
        self._request("now")
        return self.world.clock().replace(microsecond=0)

    def delete(self, key):
        self._request("delete", key)
        self.world.delete(key)

    def pending_uploads(self):
        return iter(())

    def put(self, key, data, *, if_absent=False, if_match=None, fence=None, wanted=None):
        def send():
            return self.world.put(key, bytes(data), if_absent=if_absent, if_match=if_match)

        self._request("put", key)
        if fence:
            fence()
            if self.world.kind == "strong":
                self._request("send", key)  # frozen right between the two
        mishap, self.mishap = self.mishap, ""
        if mishap and self._suffers(mishap, key, send):
            self.world.advance(GIVEN_UP_SECONDS)
            return self.put(key, data, if_absent=if_absent, if_match=if_match, fence=fence)
        return send()

    def _suffers(self, mishap, key, send):
        weak = self.world.kind != "strong"
        if mishap == "late" and weak and key.startswith(("metadata/", "manifest")):
            return False  # what remains on such stores, as the documentation says
        if mishap == "late":
            deadline = self.world.seconds + WEAK_DELAY_SECONDS if weak else float("inf")
            self.world.late.append((deadline, lambda: _unheard(send)))
        else:
            _unheard(send)
        return True

    def upload(self, key, wanted=None):
        return SimUpload(self, key)


class SimUpload:
    seconds_waited = 0.0

    def __init__(self, bucket, key):
        self._bucket, self._key, self._data = bucket, key, bytearray()

    def write(self, data):
        self._data += data

    def complete(self):
        return self._bucket.put(self._key, bytes(self._data))

    def abort(self):
        self._data.clear()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.abort()


def _unheard(send):
    with suppress(PreconditionFailed):
        send()


class SimDriver:
    """`run`, `retry` or `clean`, as `jobs.run` and the command line do it, with workers that take no time."""

    def __init__(self, world: World, promise, purpose: str, host: str, *, twice: bool = False) -> None:
        self.world = world
        self.outcome = ""
        self._promise = promise
        self._purpose = purpose
        self._twice = twice
        self.bucket = SimBucket(world)
        self._lease = Lease(self.bucket, world.kind, purpose, timer=SimTimer(world))
        self._lease._holder = replace(self._lease._holder, host=host, started=None)
        self._driving = False
        self._tasks = [Task(world, self._main), Task(world, self._renew)]

    @property
    def alive(self) -> bool:
        return not self._tasks[0].done

    def step(self, renew_first: bool = False) -> None:
        """Its next request, of the thread that is due; where all sleep, the time passes."""
        tasks = [task for task in (self._tasks[::-1] if renew_first else self._tasks) if not task.done]
        if not tasks:
            return
        due = [task for task in tasks if task.wakes <= self.world.seconds]
        first = due[0] if due else min(tasks, key=lambda task: task.wakes)
        self.world.advance(max(0.0, first.wakes - self.world.seconds))
        first.step()

    def kill(self) -> None:
        for task in self._tasks:
            task.kill()

    def go_on_until(self, what: str, steps: int = 300) -> None:
        """Freeze it right before such a request, `put metadata/`."""
        self.step()
        for _ in range(steps):
            if not self.alive or self.bucket.at.startswith(what):
                return
            self.step()

    def finish(self, steps: int = 5000) -> str:
        """Go on alone until it ends."""
        for _ in range(steps):
            if not self.alive:
                return self.outcome
            self.step()
        raise AssertionError(f"the {self._purpose} does not come to an end")

    def _renew(self) -> None:
        while self._tasks[0].done is False:
            self._lease._timer.sleep(10)
            if self._driving:
                try:
                    self._lease.renew()
                except LeaseLost:
                    return

    def _main(self) -> None:
        try:
            if self._purpose == "run" and index.read_totals(self.bucket):
                self.outcome = "finished"
                return
            self._lease.acquire()
            self._driving = True
            self.outcome = self._drive()
            self._driving = False
            self._lease.release()
        except LightmillError as error:
            self._driving = False
            self.outcome = type(error).__name__

    def _drive(self) -> str:
        if self._purpose == "clean":
            return self._clean()
        if self._purpose == "retry" and Manifest.load(self.bucket) is None:
            return "nothing to retry"
        manifest = replace_store(self._promise, self.world.kind).keep(self.bucket, self._lease.require)
        committer = Committer(self.bucket, self._lease, manifest.store)
        if self._purpose == "retry":
            rework = dict(find_failures(self.bucket, "failed").rework)
            if rework:
                index.remove(self.bucket, self._lease.require)
            for shard, work in rework.items():
                report = make_report(manifest, shard, self.bucket, only=work.keys)
                committer.replace(report, work.attempt)
        else:
            self._run(manifest, committer)
        if Catalog.read(self.bucket, manifest.shards).complete:
            index.build(self.bucket, self._lease.require, lambda totals: None)
            return "finished"
        return "stopped"

    def _run(self, manifest: Manifest, committer: Committer) -> None:
        catalog = Catalog.read(self.bucket, manifest.shards)
        for shard in list(catalog.pending(range(manifest.shards))):
            statuses = ["failed"] if shard % 2 else []
            reports = [make_report(manifest, shard, self.bucket, statuses=statuses) for _ in range(1 + self._twice)]
            for report in reports:
                committer.commit(report)

    def _clean(self) -> str:
        manifest = Manifest.load(self.bucket)
        if manifest is None:
            return "nothing to clean"
        for leftover in list(clean.find_leftovers(self.bucket, manifest)):
            clean.remove(self.bucket, leftover, self._lease.require)
        return "cleaned"


def check_index(world: World) -> None:
    """Everything that the index names was committed."""
    data = world.store.objects.get(index.KEY)
    if data is None:
        return
    for row in pq.read_table(io.BytesIO(data)).to_pylist():
        assert row["file"] in world.store.objects, f"the index names {row['file']}, which is not there"


def nothing_wrong(world: World) -> None:
    assert not world.wrongs, Problem("", "\n".join(world.wrongs)).message
