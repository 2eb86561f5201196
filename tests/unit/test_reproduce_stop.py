"""Images are made again a few at a time, and the first request to stop ends that in seconds."""

import hashlib
import threading

import pytest

from actors.device import Device
from actors.errors import Problem, Stopped, StorageError
from actors.remake import AT_ONCE, Remaker
from actors.storage.opening import open_bucket
from builders import QuietLeash, finished, read_rows
from jobs.finding import compare
from jobs.lanes import lane_recipes
from jobs.manifest import Manifest
from jobs.order import ReproduceOrder
from jobs.reproduce import reproduce


@pytest.fixture
def waves(tmp_path):
    """Ten prompts through `fake`, in shards of four."""
    return finished(tmp_path, 10, sink="files")


def test_few_images_exist_at_a_time_and_a_stop_loses_few(tmp_path, monkeypatch):
    spec = finished(tmp_path, 40, shard_size=40, sink="files")  # in batches of two
    (recipe,) = lane_recipes(Manifest.load(open_bucket(spec.output)), spec, gpus=0)
    rows = list(read_rows(spec).values())
    painted, paint = [], Device.paint
    monkeypatch.setattr(Device, "paint", lambda self, batch, *more: painted.append(batch) or paint(self, batch, *more))
    stopping = threading.Event()
    images = Remaker(recipe, open_bucket(spec.output)).remake(rows, stopping)
    made = [next(images)]
    assert len(painted) == AT_ONCE < 20
    stopping.set()
    with pytest.raises(Stopped):
        made.extend(images)
    assert len(made) == 2 * AT_ONCE
    assert all(hashlib.sha256(data).hexdigest() == row["sha256"] for row, _, data in made)


def test_a_request_to_stop_is_heard(waves):
    leash = QuietLeash()
    leash.stopping.set()
    assert reproduce(ReproduceOrder(output=waves.output, storage=waves.storage), leash) == 130
    assert leash.ends == [(130, {"message": "stopped"})]


def test_what_was_compared_before_a_stop_is_summed_up(waves, monkeypatch):
    leash, painted, paint = QuietLeash(), [], Device.paint

    def stop_in_the_second_shard(self, batch, *more):
        painted.append(batch)
        if len(painted) == 3:
            leash.stopping.set()
        return paint(self, batch, *more)

    monkeypatch.setattr(Device, "paint", stop_in_the_second_shard)
    assert reproduce(ReproduceOrder(output=waves.output, storage=waves.storage), leash) == 130
    end = leash.ends[-1][1]
    assert (end["message"], end["verdicts"]["identical"]) == ("stopped", 4)


def test_a_request_to_stop_ends_a_search(waves):
    leash = QuietLeash()
    leash.stopping.set()
    order = ReproduceOrder(output=waves.output, storage=waves.storage, id="nobody")
    assert (reproduce(order, leash), leash.errors) == (130, [])


def test_a_request_to_stop_does_not_wait_for_a_store_that_is_away(waves, monkeypatch):
    leash = QuietLeash()

    def away(url, storage, wanted):
        assert wanted()
        leash.stopping.set()
        assert not wanted()
        raise StorageError(Problem("LM1308", "the store is away"))

    monkeypatch.setattr("jobs.reproduce.open_bucket", away)
    assert reproduce(ReproduceOrder(output=waves.output, storage=waves.storage), leash) == 130
    assert (leash.errors, leash.ends) == ([], [(130, {"message": "stopped"})])


def test_an_image_whose_store_went_away_with_the_request_is_not_called_different(waves, monkeypatch):
    leash = QuietLeash()

    def no_longer(bucket, row, new, data):
        leash.stopping.set()
        return compare(bucket, {**row, "file": "images/gone.tar"}, new, data)

    monkeypatch.setattr("jobs.reproduce.compare", no_longer)
    assert reproduce(ReproduceOrder(output=waves.output, storage=waves.storage), leash) == 130
    assert (leash.errors, leash.images) == ([], [])
