"""Room that threads share."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor

from actors.room import Room

MOST = 10


def test_threads_together_hold_no_more_than_there_is_and_all_get_their_turn():
    room, held, lock, seen = Room(MOST), [0], threading.Lock(), []

    def hold(wanted):
        with room.held(wanted):
            with lock:
                held[0] += min(wanted, MOST)
                seen.append(held[0])
            with lock:
                held[0] -= min(wanted, MOST)

    wanted = random.Random(7).choices([1, 3, MOST, 5 * MOST], k=400)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(hold, wanted))

    assert (len(seen), max(seen)) == (400, MOST)


def test_what_is_left_by_an_error_is_free_again():
    room = Room(MOST)
    for _ in range(3):
        try:
            with room.held(MOST):
                raise ValueError
        except ValueError:
            pass
    with room.held(MOST):
        pass
