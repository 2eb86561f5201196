"""The captions, drawings and measures that the demo's model was made with."""

import numpy as np
import pytest
import torch
import transformers

from training.canvas import PALETTE, SIDE
from training.captions import (
    COLOURS,
    KINDS,
    SHAPES,
    Scene,
    Thing,
    caption,
    draw_scene,
    held_out_scenes,
    loosely,
    words,
)
from training.drawings import draw
from training.evaluate import grid
from training.loop import Plan, load_average, train
from training.measure import judge, nearest
from training.model import TOKENS
from training.tokenizer import write_tokenizer

MEASURED = [kind for kind in KINDS if kind != "scenery"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder, words())
    return transformers.CLIPTokenizer.from_pretrained(str(folder))


@pytest.mark.parametrize("kind", MEASURED)
def test_the_measure_finds_our_own_drawings_right(kind):
    random = np.random.default_rng(0)
    scenes = held_out_scenes(kind, 100)

    wrong = [scene for scene in scenes if not judge(draw(scene, random).astype(np.float32), scene).right]

    assert len(wrong) <= 1, [caption(scene) for scene in wrong]


@pytest.mark.parametrize("kind", MEASURED)
def test_the_measure_finds_drawings_of_other_captions_wrong(kind):
    random = np.random.default_rng(1)
    scenes = held_out_scenes(kind, 60)
    strangers = [*scenes[1:], scenes[0]]

    right = [
        judge(draw(drawn, random).astype(np.float32), told).right
        for drawn, told in zip(strangers, scenes, strict=True)
        if drawn.combination != told.combination
    ]

    assert not any(right)


@pytest.mark.parametrize(
    ("drawn", "claim"),
    [
        (Scene("one", (Thing("circle", "red"),), background="grey"), "background"),
        (Scene("one", (Thing("circle", "blue"),), background="white"), "colours"),
        (Scene("one", (Thing("diamond", "red"),), background="white"), "shapes"),
        (Scene("count", (Thing("circle", "red"),), background="white", number=2), "number"),
    ],
)
def test_the_measure_says_which_claim_is_broken(drawn, claim):
    told = Scene("one", (Thing("circle", "red"),), background="white")

    verdict = judge(draw(drawn, np.random.default_rng(0)).astype(np.float32), told)

    broken = {name for name in ("background", "colours", "shapes", "relation", "number") if not getattr(verdict, name)}
    assert claim in broken
    assert not verdict.right


@pytest.mark.parametrize("relation", ["left of", "right of", "above", "below", "inside"])
def test_two_that_changed_places_are_not_so_related(relation):
    things = Thing("circle", "red"), Thing("square", "blue")
    told = Scene("pair", things, background="white", relation=relation)
    drawn = Scene("pair", things[::-1], background="white", relation=relation)

    verdict = judge(draw(drawn, np.random.default_rng(0)).astype(np.float32), told)

    assert verdict.colours
    assert not verdict.relation


@pytest.mark.parametrize(
    "pixels", [np.zeros((SIDE, SIDE, 3)), np.random.default_rng(0).uniform(0, 255, (SIDE, SIDE, 3))]
)
@pytest.mark.parametrize("kind", MEASURED)
def test_neither_a_blank_nor_noise_is_right(kind, pixels):
    for scene in held_out_scenes(kind, 5):
        assert not judge(pixels.astype(np.float32), scene).right


def test_every_colour_is_nearest_to_itself():
    assert [nearest(np.array(PALETTE[name])) for name in COLOURS] == list(COLOURS)


@pytest.mark.parametrize("kind", KINDS)
def test_no_held_out_combination_is_ever_drawn_for_training(kind):
    random = np.random.default_rng(0)

    seen = {draw_scene(random, kind).combination for _ in range(300)}
    kept = {scene.combination for scene in held_out_scenes(kind, 100)}

    assert not seen & kept


@pytest.mark.parametrize("kind", KINDS)
def test_held_out_scenes_are_the_same_each_time(kind):
    assert held_out_scenes(kind, 20) == held_out_scenes(kind, 20)


def test_about_a_tenth_of_all_single_shapes_is_held_out():
    scenes = [
        Scene("one", (Thing(shape, colour),), background=background)
        for shape in SHAPES
        for colour in COLOURS
        for background in COLOURS
        if colour != background
    ]

    assert 0.07 < sum(scene.held_out for scene in scenes) / len(scenes) < 0.13


@pytest.mark.parametrize(
    ("scene", "text"),
    [
        (Scene("one", (Thing("star", "red"),), background="white"), "a red star on a white background"),
        (
            Scene("one", (Thing("ring", "orange", "small", "dotted"),), background="orange", position="at the top"),
            "a small dotted orange ring at the top on an orange background",
        ),
        (
            Scene("pair", (Thing("cross", "red"), Thing("heart", "orange")), background="grey", relation="inside"),
            "a red cross inside an orange heart on a grey background",
        ),
        (
            Scene("count", (Thing("cross", "red"),), background="pink", number=3),
            "three red crosses on a pink background",
        ),
        (Scene("scenery", (Thing("boat", "red"),), ground="sea", time="night"), "a red boat on the sea at night"),
        (
            Scene("scenery", (Thing("balloon", "blue"),), ground="snow", time="day"),
            "a blue balloon over the snow by day",
        ),
    ],
)
def test_captions_read_as_english(scene, text):
    assert caption(scene) == text


def test_every_word_of_a_caption_is_one_token(tokenizer):
    random = np.random.default_rng(0)
    for number in range(400):
        scene = draw_scene(random, KINDS[number % len(KINDS)])
        for text in (caption(scene), loosely(scene, random)):
            ids = tokenizer(text).input_ids
            assert len(ids) == len(text.split()) + 2 <= TOKENS
            assert tokenizer.decode(ids, skip_special_tokens=True).strip() == text


@pytest.mark.parametrize("text", ["", "日本語 🦊", "a lighthouse at dusk, watercolour", "\x00\x7f", "Ünïcödé"])
def test_any_text_has_tokens(tokenizer, text):
    ids = tokenizer(text, padding="max_length", truncation=True).input_ids

    assert len(ids) == TOKENS == tokenizer.model_max_length
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.eos_token_id in ids


def test_the_same_seed_draws_the_same_picture():
    for kind in KINDS:
        scene = held_out_scenes(kind, 1)[0]
        first, second = (draw(scene, np.random.default_rng(3)) for _ in range(2))
        assert first.shape == (SIDE, SIDE, 3)
        assert (first == second).all()


def test_an_interrupted_training_ends_as_an_unbroken_one(tmp_path):
    def loss_of(model, random):
        x = torch.randn(8, 3, generator=random)
        return (model(x) - x.sum(dim=1, keepdim=True)).square().mean()

    def learn(work, steps):
        torch.manual_seed(0)
        plan = Plan("line", steps=steps, rate=0.1, warmup=2, cooling=4, decay=0.9, save_every=5)
        return train(torch.nn.Linear(3, 1), loss_of, plan, work, seed=1, cores=2).state_dict()

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    unbroken = learn(whole, 20)
    torch.manual_seed(0)
    learn_first = Plan("line", steps=20, rate=0.1, warmup=2, cooling=4, decay=0.9, save_every=5)
    with pytest.raises(KeyboardInterrupt):
        train(torch.nn.Linear(3, 1), _stop_at(loss_of, 24), learn_first, broken, seed=1, cores=2)
    resumed = learn(broken, 20)

    assert all(torch.equal(unbroken[name], resumed[name]) for name in unbroken)
    assert torch.equal(load_average(torch.nn.Linear(3, 1), broken, "line").weight, unbroken["weight"])


def test_a_grid_has_a_place_for_each_picture(tmp_path):
    grid(np.zeros((5, SIDE, SIDE, 3), np.uint8), tmp_path / "grid.png", columns=3, zoom=1)

    assert (tmp_path / "grid.png").stat().st_size > 0


def _stop_at(loss_of, calls):
    """The same loss, until somebody presses Control-C."""
    made = []

    def counted(model, random):
        made.append(1)
        if len(made) > calls:
            raise KeyboardInterrupt
        return loss_of(model, random)

    return counted
