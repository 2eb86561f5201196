from hypothesis import given
from hypothesis import strategies as st

from jobs.catalog import Catalog
from memory_bucket import MemoryBucket


@given(st.integers(1, 70), st.sets(st.integers(0, 100)))
def test_what_can_be_listed_is_committed_and_nothing_else(shards, listed):
    bucket = MemoryBucket()
    for index in listed:
        bucket.put(f"metadata/{index:09d}.parquet", b"")
    bucket.put("metadata/notes.txt", b"")
    bucket.put(f"metadata/{shards - 1:09d}.txt", b"")
    bucket.put("images/000000000-a.tar", b"")
    committed = {index for index in listed if index < shards}

    catalog = Catalog.read(bucket, shards)

    assert {index for index in range(shards) if index in catalog} == committed
    assert set(catalog.pending(range(shards))) == set(range(shards)) - committed
    assert catalog.committed == len(committed)
    assert catalog.complete == (len(committed) == shards)


def test_a_shard_that_is_noted_twice_counts_once():
    catalog = Catalog(2)
    catalog.add(1)
    catalog.add(1)

    assert catalog.committed == 1
    assert not catalog.complete


def test_pending_shards_are_found_as_they_are_asked_for():
    catalog = Catalog(3)
    pending = catalog.pending(range(3))
    assert next(pending) == 0
    catalog.add(1)

    assert list(pending) == [2]


def test_all_but_some():
    catalog = Catalog.all_but({1, 3}, 5)

    assert list(catalog.pending(range(5))) == [1, 3]
