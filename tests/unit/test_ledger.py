"""The ledger: every second of a worker has one cause, and hardly any has none that tells anything."""

import threading
import time

import pytest

from actors.clock import CAUSES, STAGES
from actors.worker import Worker
from lanes import make_order, make_recipe


def test_the_seconds_of_a_workers_shards_add_up_to_its_life_and_say_where_it_went(tmp_path):
    prompts = [f"a painting of {number} foxes" for number in range(48)]
    recipe = make_recipe(tmp_path, prompts, model="tiny", num_inference_steps=20, batch_size=8)
    began = time.monotonic()
    worker = Worker(recipe, "w0")
    laps = []

    def make(index):
        *_, report = worker.run(make_order(24 * index + 24, start=24 * index, index=index))
        laps.append(report.seconds)

    threads = [threading.Thread(target=make, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    laps.append(worker.lap())
    life = time.monotonic() - began

    spent = {cause: sum(lap[cause] for lap in laps) for cause in CAUSES}
    assert sum(spent.values()) == pytest.approx(life, rel=0.01)
    assert all(spent[stage] > 0 for stage in ("load", *STAGES))
    assert spent["denoise"] > spent["text"]
    assert spent["other"] <= 0.02 * (life - spent["load"]), spent
