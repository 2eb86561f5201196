"""A job that breaks its own policy is refused before anything is made, with the card's line that says so."""

import json
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from actors.errors import InputError
from actors.models.facts import describe_model
from actors.models.loading import load_model
from actors.models.registry import find_card, shipped_cards
from actors.models.settings import ModelSettings
from actors.models.tiny import tiny_folder
from actors.settings import PolicySettings
from actors.storage.opening import open_bucket
from builders import make_manifest, make_spec, make_table
from commands import lightmill
from jobs.lanes import lane_recipes
from jobs.order import RunOrder
from jobs.policy import breaches, unknowns
from jobs.promise import make_promise
from pipelines import copy_of_tiny, save_with_safety_checker

ANYTHING = ("sfw", "general", "anime", "unrestricted", "clean", "unknown")


def settings(model, **words):
    return ModelSettings(model=str(model), **words)


def refused(model, **policy):
    return [problem.message for problem in breaches(PolicySettings(**policy), settings(model))]


@pytest.mark.parametrize("card", shipped_cards(), ids=lambda card: card.name)
def test_every_card_passes_where_it_is_named_and_only_there(card):
    named = {"tiers": (card.tier,), "licenses": (card.license.id.upper(),)}
    assert refused(card.name) == []
    assert refused(card.name, **named) == []
    assert len(refused(card.name, **{**named, "tiers": tuple({*ANYTHING} - {card.tier})})) == 1
    assert len(refused(card.name, **{**named, "licenses": ("MIT",)})) == 1
    unrestricted = card.tier == "unrestricted"
    assert len(refused(card.name, commercial=True)) == unrestricted + (card.license.commercial != "allowed")
    assert len(refused(card.name, commercial=True, **named)) == (card.license.commercial == "forbidden")
    assert len(refused(card.name, licenses=(card.license.id,))) == unrestricted


def test_the_line_of_the_card_says_so():
    (problem,) = breaches(PolicySettings(tiers=("clean",)), settings("stable-diffusion-1-5"))
    assert problem.code == "LM1230"
    assert problem.message == "stable-diffusion-1-5 is of the general tier, which the job's policy does not allow"
    path, _, number = problem.where.rpartition(":")
    assert Path(path).read_text().splitlines()[int(number) - 1] == problem.value == "tier: general"
    assert "tiers: [..., general]" in problem.help


def test_a_condition_of_commercial_use_is_said():
    (problem,) = breaches(PolicySettings(commercial=True), settings("flux-1-dev"))
    (card,) = (card for card in shipped_cards() if card.name == "flux-1-dev")
    assert problem.message.startswith(f"flux-1-dev allows commercial use under conditions ({card.license.id}")
    assert card.license.conditions.rstrip(".") in problem.message


@pytest.mark.parametrize("model", ["/models/sd", "someone/some-model"])
def test_what_is_unknown_must_be_named(model):
    assert refused(model) == []
    assert len(refused(model, commercial=True)) == 2
    assert len(refused(model, tiers=("unknown",))) == 1
    assert len(refused(model, licenses=("unknown",))) == 1
    assert refused(model, tiers=("unknown",), licenses=("Unknown",), commercial=True) == []


def test_a_job_without_a_policy_is_told_what_is_unknown():
    (note,) = unknowns(PolicySettings(), settings("/models/sd"))
    assert (note.code, note.severity) == ("LM1232", "note")
    assert (
        list(unknowns(PolicySettings(), settings("tiny")))
        == list(unknowns(PolicySettings(tiers=("clean",)), settings("/models/sd")))
        == []
    )


def test_a_card_of_ones_own_is_held_to_the_policy_too(tmp_path):
    card = {"name": "mine", "title": "Mine", "use": "Trying.", "tier": "anime", "license": "CC0-1.0"}
    card |= {"training_data": "None.", "id": "./sd", "sizes": [[64, 64]], "pipeline": "StableDiffusionPipeline"}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(card, sort_keys=False))
    (problem,) = breaches(PolicySettings(tiers=("clean", "sfw")), settings(str(path)))
    assert (problem.where, problem.value) == (f"{path}:4", "tier: anime")


def test_a_card_of_ones_own_gives_a_known_model_no_other_rights(tmp_path):
    card = {"name": "mine", "title": "Mine", "use": "Trying.", "tier": "clean", "license": "Apache-2.0"}
    card |= {"training_data": "None.", "id": "stabilityai/sdxl-turbo", "sizes": [[512, 512]]}
    card |= {"pipeline": "StableDiffusionXLPipeline"}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(card))
    known = find_card("sdxl-turbo")
    said = [f"{path} (sdxl-turbo) {what}" for what in (f"is of the {known.tier} tier", "forbids commercial use")]
    found = list(breaches(PolicySettings(commercial=True, tiers=("clean",)), settings(path)))
    assert [problem.message.startswith(what) for problem, what in zip(found, said, strict=True)] == [True, True]
    assert all("sdxl-turbo.yaml:" in problem.where for problem in found)
    both = {"tiers": ("clean", known.tier), "licenses": ("apache-2.0", known.license.id)}
    assert refused(path, **both) == []
    (note,) = unknowns(PolicySettings(), settings(path))
    assert (note.code, note.severity) == ("LM1233", "note")
    path.write_text(yaml.safe_dump({**card, "tier": known.tier, "license": known.license.id}))
    assert list(unknowns(PolicySettings(), settings(path))) == []


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ({"loras": ["someone/nsfw-lora"]}, "someone/nsfw-lora (loras[0])"),
        ({"vae": "x/y"}, "x/y (vae)"),
        ({"vae": "tiny"}, "tiny (vae)"),  # a folder of that name: parts are not called by cards
        ({"textual_inversions": ["./bad-hands.safetensors"]}, "./bad-hands.safetensors (textual_inversions[0])"),
        ({"revision": "refs/pr/13"}, "stable-diffusion-2-1"),
        ({"file": "other.safetensors"}, "stable-diffusion-2-1"),
    ],
)
def test_what_no_card_speaks_of_is_unknown(words, named):
    policy = PolicySettings(tiers=("sfw", "general", "clean"), licenses=("openrail++",))
    plain = settings("stable-diffusion-2-1")
    assert list(breaches(policy, plain)) == []
    tier, license_ = breaches(policy, settings("stable-diffusion-2-1", **words))
    assert tier.message == f"{named} is of the unknown tier, which the job's policy does not allow"
    assert license_.message.startswith(f"{named} has the licence unknown")
    by_name = PolicySettings(tiers=(*policy.tiers, "unknown"), licenses=(*policy.licenses, "unknown"))
    assert list(breaches(by_name, settings("stable-diffusion-2-1", **words))) == []


@pytest.mark.parametrize(
    ("words", "rights"),
    [
        ({}, ("openrail++", "general")),
        ({"revision": "refs/pr/13"}, ("unknown", "unknown")),
        ({"file": "other.safetensors"}, ("unknown", "unknown")),
    ],
)
def test_what_no_card_speaks_of_is_recorded_as_unknown_too(words, rights):
    known = describe_model(settings("stable-diffusion-2-1", **words))
    assert (known.license, known.tier) == rights


@pytest.mark.parametrize(("revision", "is_known"), [(None, True), ("main", True), ("fp16", False), ("c" * 40, False)])
def test_a_card_that_names_no_revision_speaks_of_main_for_the_policy_and_for_the_rows(tmp_path, revision, is_known):
    card = next(card for card in shipped_cards() if card.id and not card.revision and not card.pickle)
    spec = make_spec(tmp_path, models=[{"model": card.name, "revision": revision}])
    (words,) = spec.models
    assert (not list(unknowns(PolicySettings(), words))) == is_known
    commits = {f"{card.id}@main": "a" * 40, f"{card.id}@fp16": "b" * 40}
    manifest = make_manifest(make_spec(tmp_path / "other"))
    manifest = manifest.model_copy(update={"spec": spec, "cards": (card,), "commits": commits})
    (recipe,) = lane_recipes(manifest, spec, gpus=0)
    assert recipe.model.revision == commits.get(f"{card.id}@{revision or 'main'}", revision)
    rights = (card.license.id, card.tier) if is_known else ("unknown", "unknown")
    for facts in (describe_model(words), describe_model(recipe.model, lambda _: recipe.card)):
        assert (facts.license, facts.tier) == rights


def test_a_part_with_a_card_is_held_to_it_and_config_and_tokenizer_draw_nothing():
    policy = PolicySettings(tiers=("clean",))
    (card,) = (card for card in shipped_cards() if card.name == "stable-diffusion-1-5")
    assert list(breaches(policy, settings("tiny", config="x/y", tokenizer="x/y"))) == []
    (problem,) = breaches(policy, settings("tiny", vae=card.id))
    assert problem.message.startswith(f"{card.id} (vae) is of the general tier")
    assert problem.value == "tier: general"


def test_a_checkpoint_with_another_hash_than_its_cards_is_unknown(tmp_path):
    card = {"name": "mine", "title": "Mine", "use": "Trying.", "tier": "clean", "license": "CC0-1.0"}
    card |= {"training_data": "None.", "id": "./sd", "sizes": [[64, 64]], "pipeline": "StableDiffusionPipeline"}
    card |= {"format": "single_file", "file": "x.safetensors", "sha256": "a" * 64}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(card, sort_keys=False))
    policy = PolicySettings(tiers=("clean",))
    assert list(breaches(policy, settings(path, file="x.safetensors", sha256="A" * 64))) == []
    problems = list(breaches(policy, settings(path, sha256="b" * 64)))
    said = (str(path), "its `sha256` is not that of its card")
    assert [(problem.where, problem.value) for problem in problems] == [said, said]  # the tier, and the licence


def test_everything_against_a_job_is_said_at_once(tmp_path):
    broken = tmp_path / "broken.yaml"
    broken.write_text("- no map\n")
    models = [{"model": "stable-diffusion-1-5", "revision": "main"}, {"model": str(broken)}, {"model": "tiny"}]
    spec = make_spec(
        tmp_path, ["", "a fox"], models=models, policy={"tiers": ["sfw"]}, limits={"max_failed_share": 0.0}
    )
    with pytest.raises(InputError) as caught:
        make_promise(open_bucket(spec.output), RunOrder(spec=spec, frozen=True, check="all"), lambda text: None)
    assert {problem.code for problem in caught.value.problems} == {"LM1208", "LM1223", "LM1230", "LM1023", "LM1003"}
    spec = spec.model_copy(update={"prompts": str(tmp_path / "nowhere.csv")})
    with pytest.raises(InputError) as caught:
        make_promise(open_bucket(spec.output), RunOrder(spec=spec, frozen=True), lambda text: None)
    assert {problem.code for problem in caught.value.problems} == {"LM1208", "LM1223", "LM1230", "LM1000"}


def test_a_tier_that_is_none_is_refused():
    with pytest.raises(ValidationError, match="tiers"):
        PolicySettings(tiers=("safe",))


def test_a_required_safety_checker_is_looked_for(tmp_path):
    plain = copy_of_tiny(tiny_folder(), tmp_path / "plain")
    checked = save_with_safety_checker(tiny_folder(), tmp_path / "checked", 2.0)
    assert (
        refused(checked, safety_checker="required") == refused("stable-diffusion-1-5", safety_checker="required") == []
    )
    assert refused(plain, safety_checker="off") == []
    for model in (plain, "stable-diffusion-2-1", "tiny"):
        (message,) = refused(model, safety_checker="required")
        assert message == f"{model} brings no safety checker, which the job's policy does not allow"
    assert refused(tmp_path / "elsewhere", safety_checker="required") == []
    with pytest.raises(InputError) as caught:
        load_model(ModelSettings(model=str(plain)), safety_checker="required")
    assert caught.value.code == "LM1230"


@pytest.mark.parametrize("address", [None, "ray://far-away:10001"])
def test_run_refuses_before_anything_is_written(tmp_path, address):
    spec = make_spec(tmp_path, model="tiny", policy={"tiers": ["sfw"]})
    with pytest.raises(InputError, match="tiny is of the clean tier"):
        make_promise(open_bucket(spec.output), RunOrder(spec=spec, address=address), lambda text: None)
    assert not (tmp_path / "out").exists()


def test_plan_refuses_and_names_every_breach(tmp_path):
    document = {"prompts": make_table(tmp_path), "output": "out", "policy": {"tiers": ["sfw"], "licenses": ["MIT"]}}
    job = tmp_path / "job.yaml"
    job.write_text(json.dumps({**document, "models": [{"model": "tiny"}, {"model": "fake"}]}))
    said = lightmill("plan", job, "--json")
    assert said.status == 3
    assert [problem["code"] for problem in said.json["refusals"]] == ["LM1230"] * 4


def test_plan_notes_what_is_unknown(tmp_path):
    folder = copy_of_tiny(tiny_folder(), tmp_path / "sd")
    said = lightmill("plan", "--prompts", make_table(tmp_path), "--output", tmp_path / "out", "--model", folder)
    assert said.status == 0
    assert "note[LM1232]: the licence and the content tier" in said.err
