"""Whoever adds too much is held back, and told why."""

import threading
from types import SimpleNamespace

from actors.backlog import Backlog


def in_thread(work):
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_what_fits_does_not_wait():
    backlog = Backlog(10)
    backlog.take(4)
    backlog.take(6)
    assert not backlog.fits(1)
    assert backlog.seconds == {"encode_wait": 0.0, "upload_wait": 0.0}


def test_one_that_is_larger_than_the_limit_goes_alone():
    backlog = Backlog(10)
    backlog.take(1000)
    assert not backlog.fits(1)
    backlog.give(1000)
    assert backlog.fits(1000)


def test_taking_waits_for_the_encoders_and_then_for_the_store():
    backlog = Backlog(10)
    backlog.take(10)
    taker = in_thread(lambda: backlog.take(5))
    taker.join(0.05)
    assert taker.is_alive()
    with backlog.storing():
        taker.join(0.05)
        assert taker.is_alive()
        backlog.give(10)
        taker.join()
    assert backlog.seconds["encode_wait"] > 0
    assert backlog.seconds["upload_wait"] > 0


def test_what_makes_no_room_lets_nobody_go_and_each_cause_gets_its_seconds(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("actors.backlog.time", SimpleNamespace(monotonic=lambda: now[0]))
    backlog = Backlog(10)
    backlog.take(10)
    taker = in_thread(lambda: backlog.take(5))
    while not backlog._waiting:
        taker.join(0.005)
    now[0] += 3
    with backlog.storing():
        now[0] += 4
        backlog.give(4)
        taker.join(0.05)
        assert taker.is_alive()
        backlog.give(1)
        taker.join()
    assert backlog.seconds == {"encode_wait": 3.0, "upload_wait": 4.0}


def test_closing_lets_everybody_go():
    backlog = Backlog(10)
    backlog.take(10)
    waiting = [in_thread(lambda: backlog.take(5)), in_thread(backlog.wait_until_closed)]
    backlog.close()
    for thread in waiting:
        thread.join()
    assert backlog.closed
