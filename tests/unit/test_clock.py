import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.clock import CAUSES, Clock


class Hands:
    """Time that passes only when it is told to."""

    def __init__(self):
        self.seconds = 100.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def hands():
    return Hands()


def test_a_second_counts_once_as_what_matters_most(hands):
    clock = Clock(hands)
    hands.seconds += 1
    with clock.measure("other"):
        hands.seconds += 2
        with clock.measure("read"), clock.measure("generate"):
            hands.seconds += 4
        with clock.measure("announce"):
            hands.seconds += 8

    lap = clock.lap()

    assert {cause: seconds for cause, seconds in lap.items() if seconds} == {
        "idle": 1,
        "other": 2,
        "generate": 4,
        "announce": 8,
    }


def test_waiting_for_the_writer_counts_only_while_the_device_is_idle(hands):
    clock, waits = Clock(hands), {"encode_wait": 0.0, "upload_wait": 0.0}
    with clock.measure("other"), clock.held_back(lambda: waits):
        with clock.measure("generate"):
            hands.seconds += 6
        hands.seconds += 2
        waits.update(encode_wait=2.0, upload_wait=6.0)

    lap = clock.lap()

    assert (lap["generate"], lap["encode_wait"], lap["upload_wait"], lap["other"]) == (6, 0.5, 1.5, 0)


@given(
    st.lists(st.tuples(st.sampled_from([*CAUSES, "held", "lap"]), st.integers(0, 9), st.integers(0, 9)), max_size=30)
)
def test_the_laps_add_up_to_the_time_that_passed(steps):
    hands = Hands()
    clock, waits, total = Clock(hands), {"encode_wait": 0.0, "upload_wait": 0.0}, 0.0
    for cause, before, within in steps:
        hands.seconds += before
        if cause == "lap":
            total += sum(clock.lap().values())
        elif cause == "held":
            with clock.held_back(lambda: waits):
                hands.seconds += within
                waits["upload_wait"] += within / 2
        else:
            with clock.measure(cause):
                hands.seconds += within

    total += sum(clock.lap().values())

    assert total == pytest.approx(hands.seconds - 100)
