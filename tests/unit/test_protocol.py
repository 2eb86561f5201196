"""The commit protocol under drivers that die, freeze and come back, and requests that are lost, late or answered twice.

`pytest tests/unit/test_protocol.py --hypothesis-profile nightly` looks longer.
"""

import tempfile
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from actors import metadata
from actors.records import sample_key
from builders import make_spec
from jobs import index
from jobs.order import RunOrder
from jobs.promise import make_promise
from memory_bucket import MemoryBucket
from simulation import SimDriver, World, check_index, nothing_wrong

ROWS = 7
SHARD = 2
GATES = [
    "put metadata/",
    "send metadata/",
    "put leases/",
    "list leases/",
    "put manifest",
    "put index",
    "delete",
    "THE END",
]
_folder = Path(tempfile.mkdtemp(prefix="lightmill-protocol-"))
PROMISE = make_promise(
    MemoryBucket(), RunOrder(spec=make_spec(_folder, ROWS, shard_size=SHARD), check="none"), lambda text: None
)
KEYS = {sample_key(row, 0, 0) for row in range(ROWS)}


def headers(world):
    return [metadata.read_header(world.store.objects[key]) for key in world.keys("metadata/")]


def assert_whole(world):
    """No row lost, none twice, every file there with its hash, and an index that fits."""
    nothing_wrong(world)
    seen = []
    for key in world.keys("metadata/"):
        found = metadata.read_metadata(world.store.objects[key])
        seen += found.table["key"].to_pylist()
        for file in found.header.files:
            assert sha256(world.store.objects[file.file]).hexdigest() == file.sha256
    assert sorted(seen) == sorted(KEYS)
    assert index.read_totals(world.store) is not None
    assert set(index.containers(world.store)) == {file.file for header in headers(world) for file in header.files}


class Protocol(RuleBasedStateMachine):
    kind = "strong"

    @initialize(before=st.sampled_from(["nothing", "a part", "all"]))
    def begin(self, before):
        self.world = World(self.kind)
        self.drivers = []
        if before != "nothing":
            first = SimDriver(self.world, PROMISE, "run", "first")
            while first.alive and (before == "all" or len(self.world.keys("metadata/")) < 2):
                first.step()
            first.kill()

    @rule(
        purpose=st.sampled_from(["run", "run", "retry", "clean"]),
        host=st.sampled_from(["here", "there"]),
        twice=st.booleans(),
    )
    @precondition(lambda self: sum(driver.alive for driver in self.drivers) < 3)
    def start(self, purpose, host, twice):
        name = f"{host}-{len(self.drivers)}"
        self.drivers.append(SimDriver(self.world, PROMISE, purpose, name, twice=twice))

    @rule(who=st.integers(0, 2), requests=st.integers(1, 40), renew_first=st.booleans())
    def go_on(self, who, requests, renew_first):
        alive = self._alive()
        if who < len(alive):
            for _ in range(requests):
                alive[who].step(renew_first)

    @rule(who=st.integers(0, 2), what=st.sampled_from(GATES))
    def go_on_until(self, who, what):
        alive = self._alive()
        if who < len(alive):
            alive[who].go_on_until(what)

    @rule(seconds=st.sampled_from([0.5, 5.0, 12.0, 20.0, 40.0, 100_000.0]))
    def wait(self, seconds):
        self.world.advance(seconds)

    @rule(who=st.integers(0, 2))
    def kill(self, who):
        alive = self._alive()
        if who < len(alive):
            alive[who].kill()

    @rule(who=st.integers(0, 2), mishap=st.sampled_from(["reply", "late"]))
    def mishap(self, who, mishap):
        alive = self._alive()
        if who < len(alive):
            alive[who].bucket.mishap = mishap

    @rule()
    def land(self):
        self.world.land()

    def _alive(self):
        return [driver for driver in self.drivers if driver.alive]

    @invariant()
    def nothing_is_wrong(self):
        if hasattr(self, "world"):
            nothing_wrong(self.world)
            check_index(self.world)

    def teardown(self):
        """Whatever happened: the same command again makes it whole."""
        if not hasattr(self, "world"):
            return
        for driver in self.drivers:
            driver.kill()
        while self.world.late:
            self.world.land()
        last = SimDriver(self.world, PROMISE, "run", "last")
        assert last.finish() == "finished"
        last.kill()
        assert_whole(self.world)


@pytest.mark.parametrize("kind", ["strong", "racy", "ignoring"])
def test_whatever_happens_no_row_is_lost_and_none_is_there_twice(kind):
    machine = type(f"Protocol_{kind}", (Protocol,), {"kind": kind})
    machine.TestCase.settings = settings(stateful_step_count=40)
    machine.TestCase().runTest()


KINDS = pytest.mark.parametrize("kind", ["strong", "racy", "ignoring"])
BEFORE_ITS = {
    "promise": ("run", "put manifest"),
    "first commit": ("run", "put metadata/"),
    "replacement": ("retry", "put metadata/"),
}
AT_ITS = {
    "list of tars": ("run", "put shards.txt"),
    "index": ("run", "put index"),
    "removal of the index": ("retry", "delete index"),
    "cleaning": ("clean", "delete images/"),
}
"""Where a write that comes late does no harm that the next run does not see."""


@KINDS
@pytest.mark.parametrize("act", BEFORE_ITS)
@pytest.mark.parametrize("meanwhile", ["run", "retry"])
def test_a_driver_that_froze_right_before_its_write_does_not_make_it(kind, act, meanwhile):
    world, frozen = frozen_at(kind, *BEFORE_ITS[act])
    SimDriver(world, PROMISE, meanwhile, "other").finish()
    before = dict(world.store.objects)

    assert frozen.finish() == "LeaseLost"

    changed = {key for key, data in before.items() if world.store.objects.get(key) != data and "leases/" not in key}
    assert changed == set()
    assert SimDriver(world, PROMISE, "run", "last").finish() == "finished"
    assert_whole(world)


@KINDS
@pytest.mark.parametrize("act", AT_ITS)
@pytest.mark.parametrize("meanwhile", ["run", "retry"])
def test_a_write_that_was_as_good_as_sent_spoils_nothing(kind, act, meanwhile):
    world, frozen = frozen_at(kind, *AT_ITS[act])
    SimDriver(world, PROMISE, meanwhile, "other").finish()
    committed = {key: data for key, data in world.store.objects.items() if key.startswith("metadata/")}

    frozen.finish()

    if (act, meanwhile) != ("removal of the index", "run"):  # which had nothing to do, so that the retry goes on
        assert {key: world.store.objects[key] for key in committed} == committed
    assert SimDriver(world, PROMISE, "run", "last").finish() == "finished"
    assert_whole(world)


def frozen_at(kind, purpose, request):
    """A driver that stopped right before a request, 40 s ago."""
    world = World(kind)
    if purpose != "run":
        SimDriver(world, PROMISE, "run", "first", twice=True).finish()
        world.advance(100_000)
    frozen = SimDriver(world, PROMISE, purpose, "frozen")
    frozen.go_on_until(request)
    assert frozen.bucket.at.startswith(request)
    world.advance(40)
    return world, frozen


@pytest.mark.parametrize("kind", ["racy", "ignoring"])
def test_candidates_that_freeze_at_any_request_never_drive_together(kind):
    """One is frozen before each of its requests in turn; another comes and claims, then the first goes on."""
    for stop in range(1, 12):
        world = World(kind)
        first, second = (SimDriver(world, PROMISE, "run", host) for host in ("a", "b"))
        for _ in range(stop):
            first.step()
        second.go_on_until("put manifest")
        first.go_on_until("put manifest")
        driving = [driver for driver in (first, second) if driver.alive and driver._lease.is_fresh]
        assert len(driving) == 1, f"after {stop} requests"
