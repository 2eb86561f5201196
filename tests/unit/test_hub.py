"""Models that come from a hub: huggingface_hub itself, against a hub of ours on this machine."""

import json
import re
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from huggingface_hub import constants

from actors.errors import InputError
from actors.models.cache import cache_folder
from actors.models.configs import config_folder, named_config, tokenizer_folder
from actors.models.facts import describe_model, locate_model
from actors.models.loading import load_model
from actors.models.registry import find_card
from actors.models.revisions import look_up, pinned
from actors.models.settings import LoraSettings, ModelSettings
from actors.models.tiny import tiny_folder
from actors.models.trust import weight_files, weights_sha256
from actors.models.weights import arrive, with_card
from lanes import make_batch, make_request
from refusals import refused
from servers.hub import COMMIT, MODEL


def settings(**more):
    return ModelSettings(**{"model": MODEL, **more})


def test_a_model_of_the_hub_paints_as_the_folder_does(hub):
    hub.repositories[MODEL].joinpath("whole-checkpoint.safetensors").write_bytes(b"twice the same weights")
    batch = make_batch(make_request("a red fox"))

    commits = look_up([settings()])
    model = load_model(pinned(settings(), commits), device="cpu")

    assert commits == {f"{MODEL}@main": COMMIT}
    assert model.info.model_revision == COMMIT
    assert model.info.weights_sha256 == weights_sha256(tiny_folder())
    np.testing.assert_array_equal(
        model.generate(batch).pixels, load_model(ModelSettings(model="tiny"), device="cpu").generate(batch).pixels
    )
    assert not any("whole-checkpoint" in path for path in hub.asked)


def test_a_folder_that_is_called_like_a_models_hub_id_does_not_pass_for_it(hub, tmp_path, monkeypatch):
    card = find_card("stable-diffusion-2-1")
    shutil.copytree(tiny_folder(), tmp_path / card.id)
    monkeypatch.chdir(tmp_path)

    assert refused(locate_model, ModelSettings(model=card.name, revision=card.revision)) == (
        "LM1201",
        f'model "{card.id}" is not on the hub, or is private; did you mean what is here, ./{card.id}?',
    )
    assert describe_model(ModelSettings(model=f"./{card.id}")).license == "unknown"


@pytest.fixture
def vae(hub, tmp_path):
    """A repository of a VAE alone, its weights at the top, as many have it."""
    shutil.copytree(tiny_folder() / "vae", tmp_path / "vae")
    hub.repositories["someone/vae"] = tmp_path / "vae"
    return {"model": "someone/vae", "revision": COMMIT}


def test_a_vae_of_the_hub_arrives_with_its_weights(vae):
    model = load_model(ModelSettings(model="tiny", vae=vae), device="cpu")

    assert json.loads(model.info.recipe)["vae"]["sha256"] == weights_sha256(tiny_folder() / "vae")


def test_a_lora_of_the_hub_arrives_with_its_weights(hub, tmp_path):
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora" / "pytorch_lora_weights.safetensors").write_bytes(b"weights")
    hub.repositories["someone/lora"] = tmp_path / "lora"

    found = arrive(LoraSettings(model="someone/lora"))

    assert [file.name for file in weight_files(found)] == ["pytorch_lora_weights.safetensors"]


@pytest.mark.parametrize("named", [tokenizer_folder, config_folder])
def test_of_a_tokenizer_or_a_config_no_weights_are_fetched(hub, tmp_path, named):
    (hub.repositories[MODEL] / "tokenizer" / "chat_template.jinja").write_text("{{ prompt }}")
    (tmp_path / "x.safetensors").write_bytes(b"")
    words = ModelSettings(model="x.safetensors", tokenizer={"model": MODEL}, config={"model": MODEL})
    if named is tokenizer_folder:
        assert (tokenizer_folder(words, tmp_path) / "chat_template.jinja").is_file()
    else:
        refused(config_folder, words, tmp_path / "x.safetensors")
        assert named_config(words).name == COMMIT

    assert not any(path.endswith(".safetensors") for path in hub.asked)


def test_a_file_of_the_hub_is_planned_by_its_config(hub):
    facts = describe_model(settings(file="x.safetensors", config="sd1"))

    assert (facts.width, facts.pipeline) == (512, "StableDiffusionPipeline")
    assert refused(describe_model, settings(file="x.safetensors"))[0] == "LM1221"


def test_a_hub_that_is_dead_is_told(hub, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")

    assert refused(look_up, [settings()])[0] == "LM1224"
    assert refused(describe_model, settings())[0] == "LM1224"


def test_a_name_that_the_hub_does_not_allow_is_told(hub):
    assert refused(look_up, [settings(model="some--one/mo..del")]) == (
        "LM1201",
        '"some--one/mo..del" is no id of the hub',
    )


@pytest.mark.parametrize("library", ["huggingface_hub", "filelock"])
def test_a_laptop_without_the_hubs_library_is_told(hub, monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)

    with pytest.raises(InputError) as caught:
        describe_model(settings(revision=COMMIT))

    (problem,) = caught.value.problems
    assert (problem.code, problem.help) == ("LM1224", "`pip install 'lightmill[worker]'`")


def test_a_cache_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))

    code, message = refused(cache_folder, "locks")

    assert code == "LM1224"
    assert message == "models need a cache on this machine, and it cannot be written: Not a directory"


def test_planning_fetches_no_weights(hub):
    facts = describe_model(settings())

    assert (facts.width, facts.pipeline) == (64, "StableDiffusionPipeline")
    assert not any(path.endswith(".safetensors") for path in hub.asked)


def test_weights_arrive_once_for_all_workers_of_a_machine(hub):
    with ThreadPoolExecutor(4) as workers:
        found = {facts.folder for facts in workers.map(locate_model, [settings(revision=COMMIT)] * 4)}

    assert len(found) == 1
    fetched = [path for path in hub.asked if path.endswith(".safetensors")]
    assert sorted(fetched) == sorted(set(fetched))
    assert len(fetched) == 3


def test_what_is_here_needs_no_hub(hub, monkeypatch):
    locate_model(settings())
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.asked.clear()

    assert look_up([settings()]) == {f"{MODEL}@main": COMMIT}
    assert locate_model(settings(revision=COMMIT)).folder.name == COMMIT
    assert hub.asked == []


def test_what_is_not_here_is_named_where_the_hub_is_out_of_bounds(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    code, message = refused(locate_model, settings(revision=COMMIT))

    assert code == "LM1224"
    assert message.startswith(f"{MODEL}@{COMMIT} is not on this machine, and HF_HUB_OFFLINE forbids")


def test_a_gated_model_is_told(hub):
    hub.gated.add(MODEL)

    assert refused(look_up, [settings()]) == ("LM1202", f"{MODEL} is gated: its terms have to be accepted first")
    assert refused(locate_model, settings(revision=COMMIT))[0] == "LM1202"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"model": "someone/nothing"}, 'model "someone/nothing" is not on the hub'),
        ({"revision": "v9"}, f"{MODEL} has no revision v9"),
        ({"file": "none.safetensors"}, f"{MODEL} has no none.safetensors"),
    ],
)
def test_what_the_hub_has_not_is_told(hub, more, message):
    code, said = refused(look_up, [settings(**more)])

    assert code == "LM1201"
    assert said.startswith(message)


def test_a_repository_with_code_is_refused_before_anything_is_fetched(hub):
    (hub.repositories[MODEL] / "unet" / "my_unet.py").write_text("raise SystemExit")

    assert refused(look_up, [settings()])[0] == "LM1207"
    assert not any("/resolve/" in path for path in hub.asked)


def test_bytes_that_are_not_the_hubs_are_removed(hub):
    hub.spoilt.add("unet/diffusion_pytorch_model.safetensors")

    assert refused(locate_model, settings(revision=COMMIT))[0] == "LM1220"

    hub.spoilt.clear()
    assert locate_model(settings(revision=COMMIT)).folder.name == COMMIT


def test_pickles_of_the_hub_are_not_even_fetched(hub):
    unet = hub.repositories[MODEL] / "unet"
    (unet / "diffusion_pytorch_model.safetensors").rename(unet / "diffusion_pytorch_model.bin")

    with pytest.raises(InputError, match=re.escape("unet/*.safetensors")):
        locate_model(settings(revision=COMMIT))
    assert not any(path.endswith(".bin") for path in hub.asked)


def test_a_frozen_job_names_commits(hub):
    part = {"model": MODEL, "file": "vae.safetensors"}

    assert refused(look_up, [settings(revision=COMMIT, vae=part)], frozen=True) == (
        "LM1223",
        f"{MODEL}@main can move, and the job is frozen",
    )
    assert look_up([settings(revision=COMMIT)], frozen=True) == {}
    assert hub.asked == []


def test_another_file_than_the_cards_has_not_its_hash():
    card = find_card("pony-diffusion-v6")

    assert with_card(ModelSettings(model=card.name), card).sha256 == card.sha256
    assert with_card(ModelSettings(model=card.name, file="other.safetensors"), card).sha256 is None


def test_a_job_may_skip_no_layer_where_the_card_skips_some():
    card = find_card("pony-diffusion-v6").model_copy(update={"clip_skip": 1})

    assert with_card(ModelSettings(model=card.name), card).clip_skip == 1
    assert with_card(ModelSettings(model=card.name, clip_skip=0), card).clip_skip == 0
