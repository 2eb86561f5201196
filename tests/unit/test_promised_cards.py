"""A job goes on with what its models' cards said when it began; one that says something else by now is another job."""

import re
from pathlib import Path

import pytest
import yaml

from actors.errors import InputError
from actors.models.card import WORDS, ModelCard
from actors.models.loading import load_lane
from actors.models.registry import find_card
from actors.storage.opening import open_bucket
from builders import NO_FENCE, QuietLeash, drive, finished, make_spec, read_rows
from commands import lightmill
from jobs.dataset_card import KEY as README
from jobs.forecast import forecast
from jobs.lanes import lane_recipes
from jobs.manifest import Manifest, cards_of, promise
from jobs.order import ReproduceOrder, RunOrder
from jobs.promise import make_promise
from jobs.reproduce import reproduce
from memory_bucket import MemoryBucket

TERMS = {"id": "mine", "name": "Mine", "link": "https://example.org", "commercial": "allowed"}
LICENSE = {**TERMS, "share_alike": False, "use_restrictions": False}
OF_A_FILE = {
    **{"name": "mine", "title": "Mine", "use": "Tests.", "tier": "clean", "license": LICENSE, "training_data": "None."},
    **{"id": "someone/model", "revision": "a" * 40, "format": "single_file", "file": "x.safetensors"},
    **{"sha256": "a" * 64, "sizes": [[512, 512]], "pipeline": "StableDiffusionPipeline"},
    **{"vae": {"id": "someone/vae", "revision": "a" * 40}, "tokenizer": "stable-diffusion-2-1-base"},
}
CHANGES = {
    **{"name": "yours", "title": "Yours", "use": "More tests.", "training_data": "Some.", "aliases": ["a/b"]},
    **{
        "mirrors": ["a/b"],
        "gated": True,
        "safety_checker": True,
        "parameters": 0.9,
        "certainty": {"default": "measured"},
    },
    **{"text_encoders": [{"name": "CLIP", "layers": 12, "tokens": 77}], "pickle": {"pickle": True, "file": "x.ckpt"}},
    **{"tier": "anime", "license": {"license": {**LICENSE, "commercial": "forbidden"}}, "id": "someone/other"},
    **{"revision": "b" * 40, "file": "y.safetensors", "sha256": "b" * 64, "config": "sd1", "size_multiple": 64},
    **{"format": {"format": "folder", "file": None, "sha256": None}, "vae": {"vae": {"id": "someone/other"}}},
    **{"tokenizer": "stable-diffusion-1-5", "pipeline": "FluxPipeline", "sizes": [[768, 768]]},
    **{"tasks": ["inpainting"], "prediction_type": "v_prediction", "clip_skip": 1, "num_inference_steps": 9},
    **{"scheduler": {"scheduler": {"name": "DDIMScheduler"}}, "guidance_scale": 4, "negative_prompt": "blurred"},
    **{"dtype": {"dtype": {"float16": False}}},
}
"""Something else for every field; as a map where others change with it, or where it is one itself."""
ON_OFFER = {
    "tasks": {"tasks": ["text-to-image", "inpainting"]},
    "sizes": {"sizes": [[512, 512], [768, 768]]},
    "license": {"license": {**LICENSE, "conditions": "None at all."}},
}
"""Changes within fields that count, which change nothing for a job that is under way."""


def write(path, card, **changes):
    path.write_text(yaml.safe_dump({name: value for name, value in {**card, **changes}.items() if value is not None}))
    return path


def promised(folder, bucket, card):
    """Promise a job with the card; its model need not be here, as on a cluster."""
    table = folder / "prompts.parquet"
    spec = make_spec(folder, model=str(card), table=str(table) if table.exists() else None)
    make_promise(bucket, RunOrder(spec=spec, address="ray://far-away:1", check="none"), lambda text: None).keep(
        bucket, NO_FENCE
    )
    return Manifest.load(bucket)


def as_map(name, values):
    change = values[name]
    return change if isinstance(change, dict) and name in change else {name: change}


@pytest.mark.parametrize("field", ModelCard.model_fields)
def test_what_a_card_says_of_pictures_and_rights_is_held_to_and_named(tmp_path, field):
    bucket, change = MemoryBucket(), as_map(field, CHANGES)
    promised(tmp_path, bucket, write(tmp_path / "mine.yaml", OF_A_FILE))
    write(tmp_path / "mine.yaml", OF_A_FILE, **change)
    counts = change.keys() - WORDS
    if not counts:
        promised(tmp_path, bucket, tmp_path / "mine.yaml")
        return
    with pytest.raises(InputError) as refusal:
        promised(tmp_path, bucket, tmp_path / "mine.yaml")
    assert {problem.code for problem in refusal.value.problems} == {"LM1307"}
    named = {re.match(r"models\[0\]\.card\.(\w+)", problem.where)[1] for problem in refusal.value.problems}
    assert named == counts


@pytest.mark.parametrize("field", ON_OFFER)
def test_what_is_only_worded_or_offered_anew_is_no_other_job(tmp_path, field):
    bucket = MemoryBucket()
    promised(tmp_path, bucket, write(tmp_path / "mine.yaml", OF_A_FILE))
    promised(tmp_path, bucket, write(tmp_path / "mine.yaml", OF_A_FILE, **ON_OFFER[field]))


def test_a_manifest_gives_back_every_card_as_it_was(tmp_path):
    bucket = MemoryBucket()
    card = write(tmp_path / "mine.yaml", OF_A_FILE)
    manifest = promised(tmp_path, bucket, card)
    assert manifest.cards == (find_card(str(card)),)
    assert manifest.cards[0].tokenizer.id == find_card("stable-diffusion-2-1-base").id


def test_the_fingerprint_covers_it(tmp_path):
    card = write(tmp_path / "mine.yaml", OF_A_FILE)
    spec = make_spec(tmp_path, model=str(card))
    before = promise(spec, cards_of(spec), {})
    write(card, OF_A_FILE, tier="anime")
    assert promise(spec, cards_of(spec), {}) != before


# `format: built_in` without a pipeline is the model `fake`
PAINTED = {**OF_A_FILE, "id": None, "format": "built_in", "num_inference_steps": 1, "guidance_scale": 0}
PAINTED |= dict.fromkeys(("revision", "file", "sha256", "vae", "tokenizer", "pipeline"))


@pytest.fixture
def edited(tmp_path):
    """A finished job whose card says something else by now."""
    card = write(tmp_path / "mine.yaml", PAINTED)
    spec = finished(tmp_path, model=str(card))
    write(card, PAINTED, tier="anime", license="CC0-1.0", num_inference_steps=7, negative_prompt="blurred")
    return spec


def test_run_and_plan_refuse_to_go_on(edited):
    fields = {f"models[0].card.{name}" for name in ("tier", "num_inference_steps", "negative_prompt")}
    fields |= {"models[0].card.license.id"}
    leash = drive(edited)
    assert leash.ends[-1][0] == 3
    assert {problem.where for problem in leash.errors[-1].problems} == fields
    assert {problem.where for problem in forecast(edited, "none").refusals} == fields


def test_what_is_done_with_an_output_goes_by_what_was_promised(edited):
    bucket = open_bucket(edited.output)
    manifest = Manifest.load(bucket)
    info = load_lane(lane_recipes(manifest, edited, 0)[0]).info
    assert (info.model_license, info.model_tier, info.num_inference_steps) == ("mine", "clean", 1)
    assert {row["model_license"] for row in read_rows(edited).values()} == {"mine"}
    assert f"[Mine](https://example.org) | `{edited.models[0].model}` | yes | no | no |" in bucket.get(README).decode()

    leash = QuietLeash()
    reproduce(ReproduceOrder(output=edited.output, storage=edited.storage), leash)
    assert leash.ends[-1][1]["verdicts"] == {"identical": 10, "rounding": 0, "different": 0}


def test_a_card_that_is_gone_stops_nothing_but_the_job_itself(edited):
    Path(edited.models[0].model).unlink()
    assert lightmill("verify", edited.output).status == 0
    assert lightmill("status", edited.output).status == 0
    assert lightmill("clean", edited.output).status == 0
    assert drive(edited, purpose="retry").ends[-1][0] == 0
    leash = drive(edited)
    assert (leash.ends[-1][0], leash.errors[-1].code) == (3, "LM1208")
