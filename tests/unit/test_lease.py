"""Who drives: one at a time, whatever the store honours."""

import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from actors.errors import NotFound, Problem, Stopped, StorageError
from jobs import claims
from jobs.claims import Claims
from jobs.holder import Holder, _started
from jobs.lease import CANDIDACY_SECONDS, EXPIRED_SECONDS, LATE_SECONDS, Lease, LeaseHeld, LeaseLost
from jobs.timer import Timer
from memory_bucket import MemoryBucket
from weak_bucket import WeakBucket

EPOCH = datetime(2030, 1, 1, tzinfo=UTC)
TTL = claims.TTL_SECONDS + claims.CLOCK_MARGIN.total_seconds()


class Time(Timer):
    """Seconds that pass when somebody sleeps; `meanwhile` is what others do in them."""

    def __init__(self):
        self.seconds = 0.0
        self.meanwhile = []

    def now(self):
        return self.seconds

    def sleep(self, seconds):
        self.seconds += seconds
        if self.meanwhile:
            self.meanwhile.pop(0)()


class World:
    def __init__(self, kind="strong"):
        self.kind = kind
        self.time = Time()
        memory = MemoryBucket(now=lambda: EPOCH + timedelta(seconds=self.time.seconds))
        self.bucket = memory if kind == "strong" else WeakBucket(memory)
        self.said = []

    def lease(self, host="", purpose="run"):
        lease = Lease(self.bucket, self.kind, purpose, self.said.append, self.time)
        if host:
            lease._holder = replace(lease._holder, host=host)
        return lease

    def held(self, **more):
        lease = self.lease(**more)
        lease.acquire()
        return lease

    def dead(self):
        """A lease of a process of this machine that is no more."""
        lease = self.lease()
        ended = subprocess.Popen([sys.executable, "-I", "-S", "-c", ""])
        ended.wait()
        lease._holder = replace(lease._holder, pid=ended.pid)
        lease.acquire()
        return lease

    def states(self):
        return [claim.state for claim in Claims.read(self.bucket, since=0).all]


def fail():
    raise StorageError(Problem("LM1308", "the store is away"))


@pytest.fixture(params=["strong", "ignoring"])
def world(request):
    return World(request.param)


def test_who_takes_it_may_commit(world):
    lease = world.held()

    lease.require()
    assert world.states() == ["held"]


def test_a_living_process_of_this_machine_is_named_at_once(world):
    world.held(purpose="retry")
    begun = world.time.seconds

    with pytest.raises(LeaseHeld, match=rf"driven by `lightmill retry`, process {os.getpid()} on "):
        world.lease().acquire()
    assert world.time.seconds == begun


def test_a_dead_process_of_this_machine_is_succeeded_at_once(world):
    world.dead()
    begun = world.time.seconds

    world.held().require()
    assert world.time.seconds - begun <= CANDIDACY_SECONDS


def test_a_released_lease_is_free_at_once(world):
    world.held(host="elsewhere").release()
    begun = world.time.seconds

    world.held().require()
    assert world.time.seconds - begun <= CANDIDACY_SECONDS


def test_another_machine_s_is_waited_for_until_it_expires(world):
    world.held(host="elsewhere")
    begun = world.time.seconds

    world.held().require()
    assert TTL <= world.time.seconds - begun + CANDIDACY_SECONDS <= TTL + 2 * CANDIDACY_SECONDS + 2
    assert "waiting up to 30 s for the lease of `lightmill run`" in world.said[0]


def test_another_machine_s_that_is_renewed_meanwhile_is_held(world):
    other = world.held(host="elsewhere")
    world.time.meanwhile = [lambda: None, other.renew]

    with pytest.raises(LeaseHeld, match="on elsewhere"):
        world.lease().acquire()


def test_two_that_are_gone_are_both_waited_for(world):
    """The older one's last renewal was long on its way, and outlives the newer one, which had taken over."""
    older = world.held(host="elsewhere")
    world.time.seconds += TTL
    world.held(host="there")
    world.time.seconds += 10
    older._write(older._key, "held")

    world.held().require()


def test_a_lease_that_is_renewed_lasts(world):
    lease = world.held()
    for _ in range(20):
        world.time.sleep(10)
        lease.renew()

    lease.require()
    with pytest.raises(LeaseHeld):
        world.lease().acquire()


def test_nothing_is_committed_while_a_renewal_is_late(world):
    lease = world.held()
    world.time.sleep(LATE_SECONDS)
    assert not lease.is_fresh
    waits = []

    def renew_at_last():
        waits.append(world.time.seconds)
        lease.renew()

    world.time.meanwhile = [lambda: waits.append(world.time.seconds)] * 5 + [renew_at_last]

    lease.require()
    assert len(waits) == 6


def test_who_is_stopped_waits_neither_for_a_renewal_nor_for_anothers_lease(world):
    world.held(host="elsewhere")
    waiting = world.lease()
    waiting._wanted = lambda: world.time.seconds < 3
    with pytest.raises(Stopped):
        waiting.acquire()
    assert world.time.seconds < TTL

    world.time.seconds += TTL
    lease = world.held()
    lease._wanted = lambda: False
    lease.require()
    world.time.seconds += LATE_SECONDS
    with pytest.raises(Stopped):
        lease.require()


def test_a_lease_that_cannot_be_given_back_spoils_no_run(world, monkeypatch):
    with world.lease() as lease:
        monkeypatch.setattr(lease, "release", fail)

    assert "ends by itself in 30 s" in world.said[-1]


def test_an_expired_lease_is_taken_back_if_nobody_held_it_in_between(world):
    lease = world.held()
    world.time.sleep(1000)
    lease.renew()

    lease.require()
    assert world.states()[:2] == ["held", "held"]


def test_an_expired_lease_is_lost_for_ever_if_somebody_held_it_in_between(world):
    lease = world.held(host="elsewhere")
    world.time.sleep(1000)
    world.held().release()

    for _ in range(2):
        with pytest.raises(LeaseLost):
            lease.renew()
        with pytest.raises(LeaseLost):
            lease.require()


def test_a_failed_attempt_to_take_it_back_forgets_nothing(world):
    """The claim of an epoch failed, somebody else got it and is done: what we know is out of date all the same."""
    lease = world.held(host="elsewhere")
    world.time.sleep(EXPIRED_SECONDS)
    put = world.bucket.put

    def refuse(*words, **named):
        raise StorageError(Problem("LM1308", "the store is away"))

    world.bucket.put = refuse
    with pytest.raises(StorageError):
        lease.renew()
    world.bucket.put = put
    world.time.sleep(1000)
    world.held().release()

    with pytest.raises(LeaseLost):
        lease.renew()


def test_a_lease_notices_another_driver_within_its_own_time(world):
    """As when the store's clock jumps ahead and makes a living lease look expired."""
    lease = world.held(host="elsewhere")
    world.bucket.modified[lease._key] -= timedelta(seconds=60)
    world.held()

    with pytest.raises(LeaseLost):
        lease.renew()


def test_a_listing_that_is_looked_at_late_makes_nobody_look_expired(world):
    """Frozen between the listing and the question what time it is."""
    other = world.held(host="elsewhere")
    listing = world.bucket.list

    def slow_list(prefix=""):
        infos = list(listing(prefix))
        world.bucket.list = listing
        world.time.seconds += 40
        other._renewed = world.time.seconds
        world.bucket.put(other._key, world.bucket.get(other._key))
        return iter(infos)

    world.bucket.list = slow_list
    world.time.meanwhile = [lambda: None, other.renew]
    with pytest.raises(LeaseHeld):
        world.lease().acquire()


def test_after_a_lost_reply_the_store_refuses_our_own_claim_and_it_is_ours():
    world = World("strong")
    put = world.bucket.put

    def lose_the_reply(key, data, **named):
        world.bucket.put = put
        put(key, data, **named)
        return put(key, data, **named)

    world.bucket.put = lose_the_reply

    assert world.held()._epoch == 1


def test_of_two_candidates_the_first_to_be_stored_wins():
    world = World("ignoring")
    first, second = world.lease(host="a"), world.lease(host="b")
    outcome = []

    def second_stands():
        world.time.meanwhile = []
        try:
            second.acquire()
            outcome.append("second")
        except LeaseHeld as held:
            outcome.append(str(held))

    put = world.bucket.put

    def put_then_let_the_other_in(key, data, **named):
        world.bucket.put = put
        info = put(key, data, **named)
        world.time.seconds += 0.1
        world.time.meanwhile = [second_stands]
        return info

    world.bucket.put = put_then_let_the_other_in
    first.acquire()

    first.require()
    assert len(outcome) == 1
    live = [claim.token for claim in Claims.read(world.bucket).live]
    assert len(live) == 1


def test_whole_seconds_in_one_answer_and_thousandths_in_another_make_no_two_winners():
    """The answer to a HEAD dates an object by the second, that to a LIST may do so to the thousandth."""
    world = World("ignoring")
    world.time.seconds = 0.2
    first = world.lease(host="a")
    world.bucket.put(claims.claim_key(1, claims.NOBODY), claims.claim_body("candidate", "other", Holder.here("run")))
    world.time.seconds = 0.8
    head = world.bucket.head
    world.bucket.head = lambda key: (info := head(key)) and replace(info, modified=info.modified.replace(microsecond=0))

    assert not first._claim(1)


def test_a_candidate_gives_way_to_one_that_is_held_though_it_was_there_before():
    world = World("ignoring")
    first = world.lease(host="a")

    def another_holds():
        body = claims.claim_body("held", "other", replace(Holder.here("run"), host="b"))
        world.bucket.put(claims.claim_key(1, claims.NOBODY), body)

    world.time.meanwhile = [another_holds]

    assert not first._claim(1)


def test_a_candidate_whose_write_was_slow_withdraws():
    world = World("ignoring")
    put = world.bucket.put

    def slow(key, data, **named):
        world.bucket.put = put
        world.time.seconds += 1.5
        return put(key, data, **named)

    world.bucket.put = slow
    world.held().require()

    assert sorted(world.states()) == ["held", "withdrawn"]
    assert "too slow" in world.said[0]


def test_the_name_of_a_withdrawn_claim_is_never_used_again():
    """A request of the one that withdrew may still be on its way to it."""
    world = World("strong")
    loser = world.lease(host="elsewhere")
    loser._stands = lambda epoch, key: False
    assert not loser._claim(1)

    winner = world.held()

    assert world.states() == ["held", "withdrawn"]
    assert winner._epoch == 2


def test_a_late_claim_of_an_older_epoch_withdraws(world):
    world.held()
    world.time.sleep(1000)
    world.held().release()
    world.bucket.delete(claims.claim_key(1, claims.NOBODY))  # as `clean` does, a day later

    assert not world.lease()._claim(1)


def test_entered_it_is_renewed_and_released(world, monkeypatch):
    monkeypatch.setattr("jobs.lease.RENEW_SECONDS", 0.01)
    lease = world.lease()
    with lease:
        first = lease._renewed
        world.time.seconds += 5
        while lease._renewed == first:
            assert lease._renewer.is_alive()
        assert lease.is_fresh
    assert world.states() == ["released"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_renewer_that_ends_in_an_unforeseen_way_lets_nobody_wait_for_ever(world, monkeypatch):
    monkeypatch.setattr("jobs.lease.RENEW_SECONDS", 0.01)
    lease = world.lease()
    with lease:
        monkeypatch.setattr(world.bucket, "get", lambda key: b"not ours")
        lease._renewer.join()
        with pytest.raises(LeaseLost):
            lease.require()


def test_a_process_is_dead_only_if_it_surely_is():
    here = Holder.here("run")
    ended = subprocess.Popen([sys.executable, "-I", "-S", "-c", ""])
    ended.wait()

    assert not here.is_dead
    assert replace(here, pid=ended.pid).is_dead
    assert replace(here, started=here.started - 1).is_dead  # another process has got its number
    for elsewhere in ({"host": "elsewhere"}, {"boot_id": "before"}, {"pid_namespace": "pid:[1]"}):
        assert not replace(here, pid=ended.pid, **elsewhere).is_dead


def test_where_processes_cannot_be_looked_for_none_is_dead(monkeypatch, tmp_path):
    ended = subprocess.Popen([sys.executable, "-I", "-S", "-c", ""])
    ended.wait()
    monkeypatch.setattr("jobs.holder.BOOT_ID", tmp_path / "of Linux alone")
    holder = replace(Holder.here("run"), pid=ended.pid)

    assert (holder.is_near, holder.is_dead) == (False, False)


def test_a_zombie_is_dead():
    child = subprocess.Popen([sys.executable, "-I", "-S", "-c", "input()"], stdin=subprocess.PIPE)
    alive = Holder.here("run")
    holder = replace(alive, pid=child.pid, started=_started(child.pid))
    assert not holder.is_dead
    child.stdin.close()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    assert holder.is_dead
    child.wait()


def test_a_claim_that_was_removed_since_it_was_listed_is_no_claim(world):
    world.held()
    get = world.bucket.get

    def gone(key):
        raise NotFound(Problem("LM1301", "gone"))

    world.bucket.get = gone
    assert Claims.read(world.bucket).all == ()
    world.bucket.get = get
    assert len(Claims.read(world.bucket).all) == 1
