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
