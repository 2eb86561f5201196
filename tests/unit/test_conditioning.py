"""Prompts of any length and with weights: what they change, what they leave alone, and what nobody can break."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.batches import plan_batches
from actors.errors import InputError
from actors.models.conditioning import fragments
from actors.models.facts import describe_model
from actors.models.loading import load_model
from actors.models.settings import ModelSettings
from actors.models.tiny import tiny_folder
from actors.records import InputImages
from builders import QuietLeash, finished, make_spec, make_table, read_rows
from jobs.forecast import forecast
from jobs.order import ReproduceOrder
from jobs.reproduce import reproduce
from lanes import make_batch, make_request
from pipelines import copy_of_tiny, save_v2, save_xl

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
LONG = " ".join(f"a fox of colour {number}." for number in range(12))
"""Some 170 tokens of `tiny`, to which each letter is one."""
SIDE = 64


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    pytest.importorskip("compel", reason="the package compel is not installed")
    top = tmp_path_factory.mktemp("models")
    return {
        "tiny": tiny_folder(),
        "v2": save_v2(tiny_folder(), top / "v2", "v_prediction"),
        "xl": save_xl(tiny_folder(), top / "xl"),
    }


def load(folder, **settings):
    return load_model(ModelSettings(model=str(folder), prompt_encoding="weighted", **settings), device="cpu")


@pytest.fixture(scope="module")
def tiny(folders):
    return load(folders["tiny"])


def paint(model, *requests, size=None):
    return model.generate(make_batch(*requests, size=size)).pixels


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("a red fox", [("a red fox", 1.0)]),
        ("a (red fox:1.2), (snow: 0.5)", [("a ", 1.0), ("red fox", 1.2), (", ", 1.0), ("snow", 0.5)]),
        ("(a:0)(b:12.25)", [("a", 0.0), ("b", 12.25)]),
        ("a (red) fox :)", [("a (red) fox :)", 1.0)]),
        ("((a:1.2)", [("(", 1.0), ("a", 1.2)]),
        ("(a:1.2", [("(a:1.2", 1.0)]),
        ("(a:-1) (a:nan) (a:1e9) (a:123)", [("(a:-1) (a:nan) (a:1e9) (a:123)", 1.0)]),
        ("(16:9:1.1)", [("16:9", 1.1)]),
        ("( :1.2)", [("", 1.0)]),
        ("", [("", 1.0)]),
    ],
)
def test_weights_are_those_that_are_written_and_all_else_is_text(text, pieces):
    assert fragments(text) == pieces


@given(st.text("()[]:.,0123456789 ab\\+-", max_size=60))
def test_no_text_is_beyond_reading_and_no_word_of_it_is_lost(text):
    pieces = fragments(text)
    assert all(0 <= weight < 100 for _, weight in pieces)
    letters = "".join(said for said, _ in pieces)
    assert [letter for letter in letters if letter in "ab"] == [letter for letter in text if letter in "ab"]


@pytest.mark.parametrize(
    "text", ["(" * 65_536, "(a:" * 20_000, "(" + "a:" * 30_000, "(a" + " " * 60_000, "(a:" + " " * 60_000]
)
def test_reading_takes_no_longer_for_brackets_that_never_close(text):
    began = time.process_time()
    assert "".join(said for said, _ in fragments(text)) == text
    assert time.process_time() - began < 1


@pytest.mark.parametrize("negative", ["", "ugly"])
@pytest.mark.parametrize(("name", "skip"), [("tiny", None), ("tiny", 1), ("v2", None), ("xl", None)])
def test_a_plain_prompt_gives_the_bytes_that_it_gives_without(folders, name, skip, negative):
    request = make_request("a red fox (in the snow)", negative=negative)
    plain = load_model(ModelSettings(model=str(folders[name]), clip_skip=skip), device="cpu")
    np.testing.assert_array_equal(paint(load(folders[name], clip_skip=skip), request), paint(plain, request))


@pytest.mark.parametrize("name", ["tiny", "xl"])
def test_what_is_beyond_77_tokens_is_seen(folders, name):
    long, other = make_request(LONG), make_request(LONG[:-8] + "glass it is.")
    plain = load_model(ModelSettings(model=str(folders[name])), device="cpu")
    assert (paint(plain, long) == paint(plain, other)).all()
    assert plain.generate(make_batch(long)).prompt_truncated[0] > 50
    model = load(folders[name])
    assert (paint(model, long) != paint(model, other)).any()
    assert model.generate(make_batch(long)).prompt_truncated == (0,)
    assert (paint(model, make_request(negative=LONG)) != paint(model, make_request(negative=LONG[:-8]))).any()


@pytest.mark.parametrize("name", ["tiny", "xl"])
def test_weights_move_the_picture_and_a_weight_of_one_does_not(folders, name):
    model = load(folders[name])
    texts = ["a red fox", "a (red:1.4) fox", "a (red:0.4) fox", "a (red:0) fox"]
    pictures = [paint(model, make_request(text)) for text in texts]
    assert all((one != other).any() for n, one in enumerate(pictures) for other in pictures[:n])
    np.testing.assert_array_equal(paint(model, make_request("(a red fox:1.0)")), pictures[0])


@pytest.mark.parametrize("name", ["tiny", "v2", "xl"])
def test_prompts_of_any_length_are_painted_once_and_no_neighbour_changes_a_byte(folders, name, monkeypatch):
    model = load(folders[name])
    texts = ["a red fox", LONG, "(a whale:1.3)", LONG + LONG, "", LONG]
    requests = model.counted([make_request(text, seed=row, row=row) for row, text in enumerate(texts)])
    batches = plan_batches(requests, len(texts))
    painted, own = [], model._paint
    monkeypatch.setattr(model, "_paint", lambda requests, *more: painted.append(len(requests)) or own(requests, *more))

    together = [(batch, model.generate(batch).pixels) for batch in batches]

    assert sorted(painted) == sorted(batch.size for batch in batches)
    assert sum(painted) == len(texts)
    for batch, pixels in together:
        for place, request in enumerate(batch.requests):
            np.testing.assert_array_equal(paint(model, request, size=batch.size)[0], pixels[place])


@pytest.mark.parametrize("name", ["tiny", "xl"])
def test_chunks_are_counted_as_they_are_encoded(folders, name):
    model = load(folders[name])
    for text in (*NASTY, LONG, LONG + LONG, "(a red fox:0.5)" * 40):
        for request in (make_request(text), make_request(negative=text)):
            encoded = (
                model._call._conditioning._embedded(said, negative)[0]
                for said, negative in ((request.prompt.text, False), (request.negative_prompt, True))
            )
            assert model.counted([request])[0].chunks == max(map(len, encoded)), text


def test_lengths_are_counted_while_the_device_encodes(tiny):
    """A tokenizer that two threads use at a time raises `Already borrowed`."""
    with ThreadPoolExecutor(2) as pool:
        encoding = pool.submit(lambda: [tiny._call._conditioning._embed(f"{LONG} {n}", False) for n in range(40)])
        counting = pool.submit(lambda: tiny.counted([make_request(f"{LONG} {n}") for n in range(200)]))
        assert (len(encoding.result()), len(counting.result())) == (40, 200)


NASTY = [
    "((((((((((((((((((((",
    "<|endoftext|> a <|startoftext|>",
    "(!!!!:0.5) !!!!",
    "!" * 300,
    "(a:0)" * 60,
    '("a", "b").blend(1, 2) c.swap(d)++',
    "(日本語 🦊:0.5) " * 20,
    "a" * 3000,
    " ",
    "\\",
]


@pytest.mark.parametrize("name", ["tiny", "xl"])
def test_whatever_a_table_holds_becomes_a_picture(folders, name):
    model = load(folders[name])
    for text in NASTY:
        assert model.generate(make_batch(make_request(text, steps=1))).finite == (True,), text


def test_rows_say_how_they_were_made_and_are_made_again(tmp_path, folders):
    prompts = ["a red fox", LONG, "a (red:1.3) fox"]
    lane = {"model": str(folders["tiny"]), "prompt_encoding": "weighted", "num_inference_steps": 2, "threads": 1}
    spec = finished(tmp_path, table=make_table(tmp_path, prompts), models=[lane])
    rows = [row for _, row in sorted(read_rows(spec).items())]
    assert [row["prompt_truncated"] for row in rows] == [0, 0, 0]
    recipes = [json.loads(row["recipe"])["prompt_encoding"] for row in rows]
    assert [recipe["name"] for recipe in recipes] == ["weighted"] * 3
    assert all(recipe["compel"] for recipe in recipes)
    leash = QuietLeash()
    assert reproduce(ReproduceOrder(output=spec.output, storage=spec.storage), leash) == 0
    assert leash.ends[-1][1]["verdicts"]["identical"] == 3


def test_plan_does_not_call_long_what_is_read_whole(tmp_path):
    table = make_table(tmp_path, [LONG])
    for encoding, codes in (("plain", ["LM1005"]), ("weighted", [])):
        lane = {"model": str(tiny_folder()), "prompt_encoding": encoding}
        spec = make_spec(tmp_path, table=table, models=[lane])
        assert [problem.code for problem in forecast(spec, "all").report.problems] == codes


@pytest.mark.parametrize(
    ("pipeline", "settings", "why"),
    [
        ("FluxPipeline", {}, "takes no weighted prompts"),
        ("StableDiffusion3Pipeline", {}, "takes no weighted prompts"),
        ("LatentConsistencyModelPipeline", {}, "takes no weighted prompts"),
        ("StableDiffusionPipeline", {"clip_skip": 2}, "a clip_skip of 1 at most, not 2"),
        ("StableDiffusionXLPipeline", {"clip_skip": 1}, "a clip_skip of 0 at most, not 1"),
    ],
)
def test_models_that_cannot_have_them_are_refused_before_anything_is_loaded(tmp_path, pipeline, settings, why):
    folder = copy_of_tiny(tiny_folder(), tmp_path / "model", _class_name=pipeline)
    assert describe_model(ModelSettings(model=str(folder), **settings))
    with pytest.raises(InputError, match=f"LM1222.*{why}"):
        describe_model(ModelSettings(model=str(folder), prompt_encoding="weighted", **settings))


@pytest.mark.parametrize("task", ["image-to-image", "inpainting"])
def test_other_tasks_of_the_same_models_take_them_too(folders, task):
    mask = {"mask_image": np.eye(SIDE, dtype=np.uint8) * 255} if task == "inpainting" else {}
    images = InputImages(image=np.full((SIDE, SIDE, 3), 99, np.uint8), sha256={}, **mask)
    short, long = (make_request(text, steps=4, strength=0.8, input_images=images) for text in ("a red fox", LONG))
    plain = load_model(ModelSettings(model=str(folders["tiny"]), task=task), device="cpu")
    model = load(folders["tiny"], task=task)
    np.testing.assert_array_equal(paint(model, short), paint(plain, short))
    assert (paint(model, long) != paint(plain, long)).any()
