from hypothesis import given
from hypothesis import strategies as st

from actors.batches import fit, halve, plan_batches
from actors.clock import Clock
from actors.device import Device
from actors.models.loading import load_model
from actors.models.settings import ModelSettings
from lanes import make_batch, make_request

REQUESTS = st.lists(
    st.tuples(
        st.sampled_from([8, 16]),
        st.sampled_from([1, 2]),
        st.sampled_from([0.0, 7.5]),
        st.sampled_from(["", "bad"]),
        st.sampled_from([1, 2]),
    ),
    max_size=30,
).map(
    lambda kinds: [
        make_request(row=row, side=side, steps=steps, guidance=guidance, negative=negative, chunks=chunks)
        for row, (side, steps, guidance, negative, chunks) in enumerate(kinds)
    ]
)


def keys(batches):
    return [request.key for batch in batches for request in batch.requests]


def sizes(batches):
    return {request.key: batch.size for batch in batches for request in batch.requests}


@given(REQUESTS, st.integers(1, 9), st.data())
def test_every_wanted_image_is_in_one_batch_of_the_size_it_has_in_the_plain_plan(requests, batch_size, data):
    everyone = [request.key for request in requests]
    some = st.sets(st.sampled_from(everyone)) if everyone else st.just(set())
    alone, only = data.draw(some), data.draw(st.one_of(st.none(), some))

    batches = plan_batches(requests, batch_size, alone=alone, only=only)

    assert sorted(keys(batches)) == sorted(everyone if only is None else only)
    plain = sizes(plan_batches(requests, batch_size))
    assert sizes(batches) == {key: plain[key] for key in keys(batches)}


@given(REQUESTS, st.integers(1, 9))
def test_batches_are_of_one_kind_and_full_but_for_the_last_of_each(requests, batch_size):
    batches = plan_batches(requests, batch_size)

    kinds = [
        {(r.width, r.num_inference_steps, r.guidance_scale, bool(r.negative_prompt), r.chunks) for r in batch.requests}
        for batch in batches
    ]
    assert all(len(kind) == 1 for kind in kinds)
    assert all(batch.size == len(batch.requests) <= batch_size for batch in batches)
    short = [kind.pop() for kind, batch in zip(kinds, batches, strict=True) if batch.size < batch_size]
    assert len(short) == len(set(short))


def test_suspects_come_first_and_each_by_itself():
    requests = [make_request(row=row) for row in range(6)]

    batches = plan_batches(requests, 4, alone={requests[1].key, requests[5].key})

    assert [[r.prompt.source_row for r in batch.requests] for batch in batches] == [[1], [5], [0, 2, 3], [4]]
    assert [batch.size for batch in batches] == [4, 2, 4, 2]


def test_halves_keep_the_size_of_the_whole():
    batch = make_batch(*[make_request(row=row) for row in range(5)])

    assert [(len(half.requests), half.size) for half in halve(batch)] == [(2, 5), (3, 5)]


@given(st.integers(2, 20), st.integers(0, 5), st.integers(1, 19))
def test_pieces_fit_and_lose_nobody(wanted, filling, room):
    batch = make_batch(*[make_request(row=row) for row in range(wanted)], size=wanted + filling)

    pieces = fit(batch, room)

    assert keys(pieces) == keys([batch])
    assert all(len(piece.requests) <= piece.size <= max(room, 1) for piece in pieces)


def test_no_room_for_long_prompts_leaves_short_ones_theirs():
    device = Device(lambda: load_model(ModelSettings(model="fake")), Clock(), 60)
    short, long = (make_batch(*[make_request(row=row, chunks=chunks) for row in range(8)]) for chunks in (1, 3))

    device.ran_out(long)

    assert (device.room(long), device.room(short)) == (4, 8)
