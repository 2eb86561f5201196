import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.clock import CAUSES, DEVICE, Clock


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
        with clock.measure("prompts_wait"), clock.measure(DEVICE):
            hands.seconds += 4
        with clock.measure("prompts_wait"):
            hands.seconds += 8

    lap = clock.lap()

    assert {cause: seconds for cause, seconds in lap.items() if seconds} == {
        "tail": 1,
        "other": 2,
        "denoise": 4,
        "prompts_wait": 8,
    }


def test_waiting_for_the_writer_counts_only_while_the_device_is_idle(hands):
    clock, waits = Clock(hands), {"encode_wait": 0.0, "upload_wait": 0.0}
    with clock.measure("other"), clock.held_back(lambda: waits):
        with clock.measure(DEVICE):
            hands.seconds += 6
        hands.seconds += 2
        waits.update(encode_wait=2.0, upload_wait=6.0)

    lap = clock.lap()

    assert (lap["denoise"], lap["encode_wait"], lap["upload_wait"], lap["other"]) == (6, 0.5, 1.5, 0)


def test_what_the_device_did_is_divided_as_it_says_once_it_comes_off(hands):
    clock = Clock(hands)
    with clock.measure("other"):
        clock.begin(DEVICE)
        hands.seconds += 6
        clock.begin(DEVICE)  # the next one is given before the first is done
        assert sum(clock.lap().values()) == 0
        hands.seconds += 4
        clock.end(DEVICE)
        clock.divide_device({"text": 1.0, "denoise": 3.0, "decode": 1.0})
        hands.seconds += 5
        clock.end(DEVICE)

    lap = clock.lap()

    assert (lap["text"], lap["denoise"], lap["decode"], lap["other"]) == (2, 11, 2, 0)


@given(
    st.lists(
        st.tuples(st.sampled_from([*CAUSES, DEVICE, "came off", "held", "lap"]), st.integers(0, 9), st.integers(0, 9)),
        max_size=30,
    )
)
def test_the_laps_add_up_to_the_time_that_passed(steps):
    hands = Hands()
    clock, waits, total = Clock(hands), {"encode_wait": 0.0, "upload_wait": 0.0}, 0.0
    for cause, before, within in steps:
        hands.seconds += before
        if cause == "lap":
            total += sum(clock.lap().values())
        elif cause == "came off":
            clock.divide_device({"text": before, "denoise": within})
        elif cause == "held":
            with clock.held_back(lambda: waits):
                hands.seconds += within
                waits["upload_wait"] += within / 2
        else:
            with clock.measure(cause):
                hands.seconds += within

    total += sum(clock.lap().values())

    assert total == pytest.approx(hands.seconds - 100)
