"""Mirrors: filled from a hub of ours, and then all that a job needs, where the hub is out of reach."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from huggingface_hub import constants

from actors.errors import InputError
from actors.models.facts import describe_model, locate_model
from actors.models.filling import fill_mirror
from actors.models.loading import load_model
from actors.models.mirror import fill, read
from actors.models.revisions import look_up, pinned
from actors.models.settings import ModelSettings
from actors.models.tiny import tiny_folder
from actors.models.trust import weights_sha256
from actors.models.weights import arrive
from actors.storage.opening import open_bucket
from builders import make_spec, make_table
from checkpoints import save_checkpoint
from commands import lightmill
from jobs.order import RunOrder
from jobs.promise import make_promise
from pipelines import copy_of_tiny
from refusals import refused
from servers.hub import COMMIT, MODEL

OTHER = "f" * 40


def settings(**more):
    return ModelSettings(**{"model": MODEL, **more})


def cut_off(hub, monkeypatch):
    """From here on, nobody reaches the hub, and what came from it before is gone."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(Path(constants.HF_HUB_CACHE).with_name("empty")))
    hub.asked.clear()


@pytest.fixture(params=["folder", "store"])
def mirror(request, tmp_path):
    """Where a mirror may be."""
    return str(tmp_path / "mirror") if request.param == "folder" else request.getfixturevalue("moto_store").url


def test_a_mirror_takes_the_place_of_the_hub(hub, mirror, monkeypatch):
    assert fill(locate_model(settings(revision=COMMIT)).folder, mirror, settings(revision=COMMIT)) > 10
    cut_off(hub, monkeypatch)

    model = load_model(settings(mirror=mirror), device="cpu")

    assert model.info.weights_sha256 == weights_sha256(tiny_folder())
    assert hub.asked == []
    sha256, _ = read(settings(mirror=mirror))
    assert look_up([settings(mirror=mirror)], frozen=True) == {mirror: sha256, f"{MODEL}@main": COMMIT}


def test_a_mirror_that_is_filled_anew_is_another(hub, tmp_path):
    mirror = str(tmp_path / "mirror")
    fill(locate_model(settings(revision=COMMIT)).folder, mirror, settings(revision=COMMIT))
    known = json.loads((tmp_path / "mirror" / "sha256.json").read_text())
    words = pinned(settings(mirror=mirror), look_up([settings(mirror=mirror)]))
    assert (known["model"], known["revision"]) == (MODEL, COMMIT)
    assert locate_model(words).width == 64

    (tmp_path / "readme.txt").write_text("something else")
    fill(tmp_path / "readme.txt", mirror, settings(revision=COMMIT))

    code, message = refused(locate_model, words)
    assert (code, "was filled anew" in message) == ("LM1220", True)
    assert refused(look_up, [words])[0] == "LM1220"


def test_a_file_keeps_its_place_in_a_mirror(hub, tmp_path):
    mirror = str(tmp_path / "mirror")
    file = tmp_path / "x.safetensors"
    file.write_bytes(b"weights")
    words = settings(file="sub/x.safetensors", mirror=mirror)

    fill(file, mirror, words)

    assert arrive(words).read_bytes() == b"weights"
    assert refused(arrive, settings(file="x.safetensors", mirror=mirror)) == (
        "LM1201",
        f"the mirror {mirror} has no x.safetensors",
    )


def test_a_list_without_hashes_is_no_mirror(hub, tmp_path):
    (tmp_path / "sha256.json").write_text('{"schema_version": 1, "files": {"x.safetensors": {"size": 3}}}')

    assert refused(arrive, settings(mirror=str(tmp_path)))[0] == "LM1201"


def test_a_mirror_that_was_tampered_with_is_refused(hub, tmp_path):
    mirror = str(tmp_path / "mirror")
    assert refused(locate_model, settings(mirror=mirror)) == ("LM1201", f"{mirror} is not the mirror of a model")
    fill(locate_model(settings(revision=COMMIT)).folder, mirror, settings(revision=COMMIT))
    weights = tmp_path / "mirror" / "unet" / "diffusion_pytorch_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))

    assert refused(locate_model, settings(mirror=mirror))[0] == "LM1220"
    weights.unlink()
    assert refused(locate_model, settings(mirror=mirror))[0] == "LM1201"
    weights.write_bytes(whole)
    assert locate_model(settings(mirror=mirror)).width == 64


@pytest.mark.parametrize(
    ("source", "more", "held"),
    [
        ({"model": "someone/other"}, {}, f"someone/other@{COMMIT}"),
        ({"revision": OTHER}, {"revision": COMMIT}, f"{MODEL}@{OTHER}"),
        ({"revision": None}, {"revision": COMMIT}, MODEL),
    ],
)
def test_a_mirror_of_another_model_or_revision_is_refused_at_every_door(hub, tmp_path, source, more, held):
    mirror = str(tmp_path / "mirror")
    fill(tiny_folder(), mirror, settings(**{"revision": COMMIT, **source}))

    wanted = f"{MODEL}@{COMMIT}" if more else MODEL
    said = ("LM1220", f"the mirror {mirror} is not of {wanted}: it was filled from {held}")
    for call in (describe_model, locate_model, arrive):
        assert refused(call, settings(mirror=mirror, **more)) == said
    assert refused(look_up, [settings(mirror=mirror, **more)]) == said


def test_a_clean_cards_name_lets_nobody_elses_weights_pass_the_policy(hub, tmp_path):
    mirror = str(tmp_path / "mirror")
    fill(tiny_folder(), mirror, settings(revision=COMMIT))
    models = [{"model": "commoncanvas-s-c", "mirror": mirror}]
    spec = make_spec(tmp_path, models=models, policy={"tiers": ["clean"]})

    for address in (None, "ray://far-away:10001"):  # before there is a worker to see it
        with pytest.raises(InputError, match=f"it was filled from {MODEL}") as caught:
            make_promise(open_bucket(spec.output), RunOrder(spec=spec, address=address), lambda text: None)
        assert {problem.code for problem in caught.value.problems} == {"LM1220"}
    assert not (tmp_path / "out").exists()
    job = tmp_path / "job.json"
    job.write_text(json.dumps(spec.dump()))
    assert (lightmill("plan", job).status, lightmill("plan", job).codes) == (3, ["LM1220"])


def test_a_mirror_tells_the_commit_that_it_was_filled_from(hub, tmp_path):
    mirror = str(tmp_path / "mirror")
    fill_mirror(MODEL, None, mirror)
    words = pinned(settings(mirror=mirror), look_up([settings(mirror=mirror)]))

    assert (words.revision, words.mirror_sha256) == (COMMIT, read(settings(mirror=mirror))[0])
    assert load_model(words, device="cpu").info.model_revision == COMMIT


def test_planning_with_a_mirror_asks_no_hub_and_fetches_no_weights(hub, mirror, tmp_path, monkeypatch):
    fill_mirror(MODEL, None, mirror)
    cut_off(hub, monkeypatch)
    job = tmp_path / "job.yaml"
    models = [{"model": MODEL, "mirror": mirror}]
    job.write_text(json.dumps({"prompts": make_table(tmp_path), "output": "out", "models": models}))

    said = lightmill("plan", job, "--json")

    assert (said.status, said.json["lanes"][0]["width"], hub.asked) == (0, 64, [])
    assert not list((tmp_path / "cache").rglob("mirrored/**/*.safetensors"))


@pytest.fixture
def scattered(hub, tmp_path):
    """The card of a checkpoint that takes VAE and vocabulary from elsewhere, all of it on the hub."""
    hub.repositories["someone/vae"] = shutil.copytree(tiny_folder() / "vae", tmp_path / "vae")
    hub.repositories["someone/words"] = copy_of_tiny(tiny_folder(), tmp_path / "words")
    hub.repositories["someone/checkpoint"] = tmp_path / "checkpoint"
    (tmp_path / "checkpoint").mkdir()
    file = save_checkpoint(tiny_folder(), tmp_path / "checkpoint" / "x.safetensors")
    card = {"name": "mine", "title": "Mine", "use": "Tests.", "tier": "clean", "license": "CC0-1.0"}
    card |= {"training_data": "None.", "sizes": [[64, 64]], "pipeline": "StableDiffusionPipeline"}
    card |= {"id": "someone/checkpoint", "format": "single_file", "file": file.name, "sha256": weights_sha256(file)}
    card |= {"tokenizer": {"id": "someone/words"}, "vae": {"id": "someone/vae", "revision": COMMIT}}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(card))
    return {"model": str(path), "config": str(tiny_folder())}


def test_what_a_card_takes_from_elsewhere_is_mirrored_too(hub, scattered, mirror, monkeypatch):
    assert lightmill("models", "mirror", scattered["model"], mirror).status == 0
    bucket = open_bucket(mirror)
    assert not [info.key for info in bucket.list("parts/tokenizer/") if info.key.endswith(".safetensors")]
    cut_off(hub, monkeypatch)
    words = ModelSettings(**scattered, mirror=mirror)

    commits = look_up([words])
    model = load_model(pinned(words, commits), device="cpu")

    assert hub.asked == []
    assert model.info.model_revision == commits["someone/words@main"] == COMMIT
    recipe = json.loads(model.info.recipe)
    assert (recipe["vae"]["model"], recipe["vae"]["revision"]) == ("someone/vae", COMMIT)
    assert recipe["vae"]["sha256"] == weights_sha256(tiny_folder() / "vae")


def test_the_hash_of_a_mirror_stands_for_its_parts(hub, scattered, tmp_path):
    mirror = str(tmp_path / "mirror")
    fill_mirror(scattered["model"], None, mirror)
    words = ModelSettings(**scattered, mirror=mirror)
    named = words.model_copy(
        update={"mirror_sha256": read(words.model_copy(update={"model": "someone/checkpoint"}))[0]}
    )
    look_up([named])

    fill(tiny_folder() / "vae", f"{mirror}/parts/vae", ModelSettings(model="someone/vae", revision=COMMIT))
    listed = Path(mirror, "parts", "vae", "sha256.json")
    listed.write_text(listed.read_text() + " ")

    code, message = refused(look_up, [named])
    assert (code, "parts/vae was filled anew" in message) == ("LM1220", True)


def test_a_mirror_that_lacks_a_part_is_told_with_how_to_fill_it(hub, scattered, tmp_path):
    mirror = str(tmp_path / "mirror")
    fill_mirror(scattered["model"], None, mirror)
    Path(mirror, "parts", "vae", "sha256.json").unlink()

    with pytest.raises(InputError) as caught:
        locate_model(ModelSettings(**scattered, mirror=mirror))
    (problem,) = caught.value.problems
    assert (problem.code, problem.help) == ("LM1201", f"fill it: `lightmill models mirror NAME {mirror}`")


def test_a_model_of_which_only_texts_would_come_gets_no_mirror(hub, tmp_path):
    hub.repositories[MODEL] = copy_of_tiny(tiny_folder(), tmp_path / "pickled")
    for part in ("unet", "vae", "text_encoder"):
        for file in (tmp_path / "pickled" / part).glob("*.safetensors"):
            file.rename(file.with_suffix(".bin"))
    with pytest.raises(InputError) as caught:
        fill_mirror(MODEL, None, str(tmp_path / "mirror"))
    assert {problem.code for problem in caught.value.problems} == {"LM1206"}
    assert "the folder lacks unet/*.safetensors" in str(caught.value)

    hub.repositories["someone/checkpoint"] = tmp_path / "checkpoint"
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "x.ckpt").write_bytes(b"pickled")
    (tmp_path / "checkpoint" / "config.json").write_text("{}")
    code, message = refused(fill_mirror, "someone/checkpoint", None, str(tmp_path / "mirror"))
    assert (code, "no weights in safetensors" in message) == ("LM1206", True)
    assert not (tmp_path / "mirror").exists()


def test_what_was_copied_from_a_mirror_is_looked_at_whenever_it_changed(hub, tmp_path):
    mirror = str(tmp_path / "mirror")
    fill_mirror(MODEL, None, mirror)
    words = settings(mirror=mirror)
    weights = arrive(words) / "unet" / "diffusion_pytorch_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))

    code, message = refused(arrive, words)
    assert (code, message) == (
        "LM1220",
        f"unet/{weights.name} is not what the mirror {mirror} has: it was removed",
    )
    assert (arrive(words) / "unet" / weights.name).read_bytes() == whole


def test_a_mirror_is_of_the_branch_that_it_was_asked_for_by(hub, tmp_path):
    mirror, pinned_one = str(tmp_path / "mirror"), str(tmp_path / "pinned")
    fill_mirror(MODEL, None, mirror)
    fill_mirror(MODEL, COMMIT, pinned_one)

    for url, held in ((mirror, "main"), (pinned_one, COMMIT)):
        said = ("LM1220", f"the mirror {url} is not of {MODEL}@fp16: it was filled from {MODEL}@{held}")
        assert refused(look_up, [settings(mirror=url, revision="fp16")]) == said
        for revision in (None, COMMIT):
            words = settings(mirror=url, revision=revision)
            assert pinned(words, look_up([words])).revision == COMMIT
    words = settings(mirror=mirror, revision="main")
    assert pinned(words, look_up([words])).revision == COMMIT
