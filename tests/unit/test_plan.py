"""Plan: which rows make which shard."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.catalog import Catalog
from jobs.plan import Plan

PLANS = st.builds(
    Plan,
    st.lists(st.integers(0, 60), min_size=1, max_size=4).map(tuple),
    st.integers(1, 20),
    st.integers(1, 3),
)


@given(PLANS)
def test_every_row_of_every_lane_is_in_exactly_one_shard(plan):
    rows = [(shard.lane, row) for shard in plan for row in range(shard.start, shard.stop)]
    assert sorted(rows) == [(lane, row) for lane, count in enumerate(plan.lane_rows) for row in range(count)]
    assert sum(plan.shard_images(shard.index) for shard in plan) == plan.images


@given(PLANS)
def test_a_lane_has_its_shards_side_by_side(plan):
    for lane in range(len(plan.lane_rows)):
        assert {plan.shard(index).lane for index in plan.lane_shards(lane)} <= {lane}
    assert [index for lane in range(len(plan.lane_rows)) for index in plan.lane_shards(lane)] == list(
        range(plan.shards)
    )


def test_a_billion_rows_cost_no_more_than_ten():
    plan = Plan((10**9, 10**9), 1000, 1)
    assert plan.shards == 2_000_000
    assert plan.shard(1_999_999).stop == 10**9


def test_there_is_no_shard_beyond_the_last():
    with pytest.raises(IndexError):
        Plan((10,), 4, 1).shard(3)


@given(st.integers(1, 200).flatmap(lambda shards: st.tuples(st.just(shards), st.sets(st.integers(0, shards - 1)))))
def test_a_catalog_tells_what_is_there_from_what_is_not(case):
    shards, there = case
    catalog = Catalog(shards)
    for index in [*there, *there]:
        catalog.add(index)
    assert [index for index in range(shards) if index in catalog] == sorted(there)
    assert list(catalog.pending(range(shards))) == sorted(set(range(shards)) - there)
    assert catalog.committed == len(there)
    assert catalog.complete == (len(there) == shards)
