"""Stages: images of images in one job. What each is made of, in which order, and what becomes of it in trouble."""

import json
import threading
from collections import Counter
from unittest.mock import Mock

import diffusers
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from actors import metadata
from actors.encoding import decode
from actors.errors import InputError, Problem, RunError, UsageError
from actors.imprint import COMPOSITE, TRAINED
from actors.models.tiny import tiny_folder
from actors.records import Beat, ShardReport
from actors.storage.opening import open_bucket
from builders import QuietLeash, drive, finished, make_spec, make_table, read_rows
from cluster.jobfile import load_job
from commands import lightmill
from jobs import index
from jobs.catalog import Catalog
from jobs.dispatch import Dispatch
from jobs.forecast import forecast
from jobs.lineup import line_up
from jobs.manifest import Manifest
from jobs.order import ReproduceOrder
from jobs.plan import Plan
from jobs.reproduce import reproduce
from jobs.verify import verify
from pipelines import save_inpainting, save_upscaler
from thread_pool import ThreadPool

pytestmark = [
    pytest.mark.filterwarnings("ignore:In CPU autocast:UserWarning"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]
FAKE = {"model": "fake", "width": 32, "height": 24, "batch_size": 2, "threads": 1}
TINY = {"model": "tiny", "num_inference_steps": 2, "batch_size": 2, "threads": 1}


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def upscaler(tmp_path_factory):
    return str(save_upscaler(tiny_folder(), tmp_path_factory.mktemp("models") / "upscaler"))


def staged(*stages, workers=1):
    """`workers` are of the first: transformers cannot load two models at once in one process."""
    first, *later = stages or (FAKE, TINY)
    one = {"workers": {"max": 1}}
    return {"models": None, "stages": [{**first, "workers": {"max": workers}}, *({**stage, **one} for stage in later)]}


def opened(spec):
    bucket = open_bucket(spec.output)
    return bucket, Manifest.load(bucket)


def faults(spec):
    return [fault for checked in verify(*opened(spec)) for fault in checked.faults]


def by_stage(spec):
    """The rows of each stage, in the order of the table."""
    stages = {}
    for _, row in sorted(read_rows(spec).items()):
        stages.setdefault(row["stage"], []).append(row)
    return [stages[number] for number in sorted(stages)]


def pixels(spec, rows):
    bucket = open_bucket(spec.output)
    return [decode(bucket.read(row["file"], row["file_offset"], row["file_length"])) for row in rows]


def pictures(spec):
    return {key: (row["status"], row["sha256"]) for key, row in read_rows(spec).items()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Six rows in two shards a stage: a wave, and what `tiny` makes of it."""
    return finished(tmp_path_factory.mktemp("undisturbed"), 6, **staged())


def test_each_row_is_made_of_the_row_before_and_says_so(undisturbed):
    first, second = by_stage(undisturbed)
    assert [row["parents"] for row in first] == [None] * 6
    assert [row["parents"] for row in second] == [[row["key"]] for row in first]
    assert [json.loads(row["recipe"])["inputs"]["image"] for row in second] == [
        {"parent": row["key"], "sha256": row["sha256"]} for row in first
    ]
    assert {(row["width"], row["height"]) for row in second} == {(32, 24)}
    assert {row["digital_source_type"] for row in second} == {TRAINED}
    assert [row["seed"] for row in second] == [row["seed"] for row in first]
    assert faults(undisturbed) == []


def test_a_picture_drawn_and_upscaled_is_that_of_diffusers_byte_for_byte(tmp_path, upscaler):
    draws = {**TINY, "width": 32, "height": 24}
    upscales = {"model": upscaler, "num_inference_steps": 2, "batch_size": 3, "threads": 1, "noise_level": 40}
    spec = finished(tmp_path, ["a fox", "an owl", "a whale"], **staged(draws, upscales), sink="files")
    first, second = by_stage(spec)
    pipeline = diffusers.StableDiffusionUpscalePipeline.from_pretrained(upscaler, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    torch.set_num_threads(1)
    theirs = pipeline(
        prompt=[row["prompt"] for row in second],
        image=[Image.fromarray(image) for image in pixels(spec, first)],
        generator=[torch.Generator().manual_seed(row["seed"]) for row in second],
        num_inference_steps=2,
        noise_level=40,
    ).images
    np.testing.assert_array_equal(pixels(spec, second), [np.asarray(image) for image in theirs])
    assert {(row["width"], row["height"]) for row in second} == {(128, 96)}
    leash = QuietLeash()
    assert reproduce(ReproduceOrder(output=spec.output, storage=spec.storage), leash) == 0
    assert leash.ends[-1][1]["verdicts"] == {"identical": 6, "rounding": 0, "different": 0}


def test_columns_of_the_table_steer_the_first_stage_and_seed_and_negative_prompt_all(tmp_path):
    columns = {"width": [16, 24], "num_inference_steps": [3, 4], "seed": [5, 6], "negative_prompt": ["grey", ""]}
    table = make_table(tmp_path, 2, **columns)
    spec = finished(tmp_path, table=table, overrides=list(columns), **staged(FAKE, {**TINY, "strength": 0.9}))
    names = ["width", "height", "num_inference_steps", "seed", "negative_prompt", "strength"]
    assert [[[row[name] for name in names] for row in rows] for rows in by_stage(spec)] == [
        [[16, 24, 3, 5, "grey", None], [24, 24, 4, 6, "", None]],
        [[16, 24, 2, 5, "grey", 0.9], [24, 24, 2, 6, "", 0.9]],
    ]


def test_a_later_stage_may_say_its_own_size(tmp_path):
    spec = finished(tmp_path, 1, **staged(FAKE, {**TINY, "width": 64, "height": 48}))
    assert [(row["width"], row["height"]) for rows in by_stage(spec) for row in rows] == [(32, 24), (64, 48)]


def test_what_is_made_of_somebodys_picture_stays_a_composite(tmp_path):
    Image.new("RGB", (32, 24), (200, 90, 30)).save(tmp_path / "photo.png")
    table = make_table(tmp_path, 1, image=["photo.png"])
    stages = staged({**TINY, "task": "image-to-image", "width": 32, "height": 24}, TINY)
    rows = [row for rows in by_stage(finished(tmp_path, table=table, overrides=["image"], **stages)) for row in rows]
    assert [(row["digital_source_type"], row["image"]) for row in rows] == [(COMPOSITE, "photo.png")] * 2


def broken(folder, cure, **changes):
    """Rows of which one fails in the first stage until it is cured, one is filtered, one is bad and one is flagged."""
    prompts = ["a fox", "boom", "rude", " ", "naked", "an owl"]
    first = {**FAKE, "model": f"fake:fail=boom,cure={cure},nsfw=naked"}
    return make_spec(folder, prompts, **staged(first, TINY), prompt_filter={"patterns": ["rude"]}, **changes)


def codes(spec):
    return [[row["error_code"] for row in rows] for rows in by_stage(spec)]


def test_a_child_of_no_image_is_a_row_all_the_same_and_is_made_with_its_parent(tmp_path):
    cure = tmp_path / "cure"
    spec = broken(tmp_path, cure)
    assert drive(spec).ends[-1][0] == 0
    assert codes(spec) == [
        [None, "LM1603", "LM1030", "LM1003", "LM1605", None],
        [None, "LM1619", "LM1030", "LM1003", "LM1619", None],
    ]
    _first, second = by_stage(spec)
    assert [row["status"] for row in second] == ["ok", "failed", "filtered", "failed", "filtered", "ok"]
    assert "its parent 000000000001-0000-00 is failed: the model raised" in second[1]["error"]
    assert second[1]["parents"] is None
    before = pictures(spec)
    cure.touch()
    leash = drive(spec, purpose="retry", only="LM1603")
    assert leash.ends[-1][1]["made"] == 2
    assert codes(spec) == [
        [None, None, "LM1030", "LM1003", "LM1605", None],
        [None, None, "LM1030", "LM1003", "LM1619", None],
    ]
    assert faults(spec) == []
    assert {key for key, found in pictures(spec).items() if found != before[key]} == {
        "000000000001-0000-00",
        "000000000001-0000-01",
    }


def test_a_retry_of_the_later_stage_alone_asks_for_its_own_rows(tmp_path):
    cure = tmp_path / "cure"
    spec = broken(tmp_path, cure)
    drive(spec)
    given = []
    drive(spec, ThreadPool(assigned=given.append), purpose="retry", only="LM1619")
    assert [(order.shard.index, order.shard.lane, order.only) for order in given] == [
        (2, 1, {"000000000001-0000-01"}),
    ]
    assert codes(spec)[1][1] == "LM1619"  # its parent is as it was
    given.clear()
    drive(spec, ThreadPool(assigned=given.append), purpose="retry")
    assert [order.shard.index for order in given] == [0, 2], "first the parent"


def test_a_retry_that_died_between_the_stages_goes_on_with_the_children(tmp_path):
    cure = tmp_path / "cure"
    spec = broken(tmp_path, cure)
    drive(spec)
    cure.touch()

    def die_at_the_first_child(order):
        if order.shard.lane == 1:
            raise RunError(Problem("LM1608", "the machine is gone"))

    given = []
    leash = drive(spec, ThreadPool(assigned=die_at_the_first_child), purpose="retry", only="LM1603")
    assert leash.ends[-1][0] == 1
    assert [rows[1] for rows in codes(spec)] == [None, "LM1619"]
    leash = drive(spec, ThreadPool(assigned=given.append), purpose="retry", only="LM1603")
    assert [(order.shard.index, order.only) for order in given] == [(2, {"000000000001-0000-01"})]
    assert leash.ends[-1][1]["totals"]["failed"] == 2
    assert codes(spec)[1] == [None, None, "LM1030", "LM1003", "LM1619", None]
    assert index.is_current(opened(spec)[0])


def test_a_retry_that_died_before_the_index_writes_it_when_it_is_asked_again(tmp_path):
    spec = broken(tmp_path, tmp_path / "cure")
    drive(spec)
    (tmp_path / "cure").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index, "build", Mock(side_effect=RunError(Problem("LM1608", "the machine is gone"))))
        assert drive(spec, purpose="retry", only="LM1603").ends[-1][0] == 1
    assert not index.is_current(opened(spec)[0])
    words = drive(spec, purpose="retry", only="LM1603").ends[-1][1]
    assert (words["message"], words["made"], words["totals"]["failed"]) == ("finished", 0, 2)
    assert index.is_current(opened(spec)[0])
    words = drive(spec, purpose="retry", only="LM1603").ends[-1][1]
    assert words["message"] == "nothing to retry: no committed row is LM1603"


def test_children_of_rows_that_fail_for_ever_are_not_tried_again(tmp_path):
    """A strength that leaves no step: a fault of the row that only the model knows."""
    Image.new("RGB", (32, 24), (200, 90, 30)).save(tmp_path / "photo.png")
    table = make_table(tmp_path, 2, image=["photo.png"] * 2, strength=[0.01, 1.0])
    stages = staged({**TINY, "task": "image-to-image", "width": 32, "height": 24}, TINY)
    spec = finished(tmp_path, table=table, overrides=["image", "strength"], **stages)
    assert codes(spec) == [["LM1032", None], ["LM1619", None]]
    leash = drive(spec, purpose="retry")
    assert "nothing to retry" in leash.ends[-1][1]["message"]
    assert any("2 failed images cannot be made by trying again" in text for text in leash.said)
    strict = spec.model_copy(update={"limits": spec.limits.model_copy(update={"max_failed_share": 0.1})})
    leash = drive(strict)
    assert leash.ends[-1][0] == 4
    assert "the rows of the table are at fault" in leash.errors[0].problems[0].help


def test_nothing_is_made_before_its_parents_are_committed_and_a_resume_goes_on_between_the_stages(
    tmp_path, undisturbed
):
    spec = make_spec(tmp_path, 6, **staged(workers=2))
    leash, bucket = QuietLeash(), open_bucket(spec.output)

    def assigned(order):
        if order.parents is not None:
            assert bucket.head(metadata.key(order.parents)), "not before its parents"
            assert (order.parents.lane, order.parents.start) == (order.shard.lane - 1, order.shard.start)

    def stop_at_the_first_child(worker, shard, item):
        if shard.lane == 1 and isinstance(item, Beat):
            leash.stopping.set()
        return "deliver"

    drive(spec, ThreadPool(stop_at_the_first_child, assigned=assigned), leash=leash)
    assert leash.ends[-1][0] == 130
    there = Counter(row["stage"] for row in read_rows(spec).values())
    assert there[0] > 0
    assert there[1] < 6
    assert drive(spec, ThreadPool(assigned=assigned)).ends[-1][0] == 0
    assert pictures(spec) == pictures(undisturbed)
    assert faults(spec) == []


class OneGpu(ThreadPool):
    """Room for one worker at a time; the others are asked for, and wait."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.lanes, self._holder, self._gpu = [], None, threading.Lock()

    def _load(self, member, recipe):
        while not self._takes(member):
            if member.gone.wait(0.005):
                return
        self.lanes.append(recipe.lane)
        super()._load(member, recipe)

    def _takes(self, member):
        with self._gpu:
            is_free = self._holder is None or self._holder.gone.is_set()
            self._holder = member if is_free else self._holder
            return is_free


def test_stages_take_turns_on_one_gpu(tmp_path, undisturbed):
    spec = make_spec(tmp_path, 6, **staged(workers=2))
    pool = OneGpu()
    assert drive(spec, pool).ends[-1][0] == 0
    assert pool.lanes == [0, 1], "each model is loaded once"
    assert pictures(spec) == pictures(undisturbed)


def test_models_take_turns_on_one_gpu(tmp_path):
    spec = make_spec(tmp_path, 6)
    spec = spec.model_copy(update={"models": (spec.models[0], spec.models[0].model_copy(update={"width": 24}))})
    pool = OneGpu()
    assert drive(spec, pool).ends[-1][0] == 0
    assert pool.lanes == [0, 1]


@pytest.mark.parametrize("lane", [0, 1])
@pytest.mark.parametrize(("what", "kind"), [("kill after", Beat), ("kill", ShardReport)])
def test_whatever_becomes_of_a_worker_on_the_one_gpu_every_image_is_there_once(tmp_path, undisturbed, lane, what, kind):
    killed = []

    def fate(worker, shard, item):
        if shard.lane == lane and isinstance(item, kind) and not killed:
            killed.append(worker)
            return what
        return "deliver"

    spec = make_spec(tmp_path, 6, **staged(workers=2))
    assert drive(spec, OneGpu(fate)).ends[-1][0] == 0
    assert killed
    assert pictures(spec) == pictures(undisturbed)
    assert faults(spec) == []


class Handing:
    """What is handed out, and what comes back, held against what may be."""

    def __init__(self, lanes, shards, before):
        self.plan = Plan((2 * shards,) * lanes, 2, 1, staged=True)
        self.catalog = Catalog(self.plan.shards)
        for shard in before & set(range(self.plan.shards)):
            self.catalog.add(shard)
        self.todo = Dispatch(self.plan, self.catalog, 10**6)
        self.in_hand = []

    def take(self, lane):
        order = self.todo.next(lane)
        if order is not None:
            assert order.shard.index in self.ripe(lane)
            assert order.parents == (
                self.plan.shard(order.shard.index - len(self.plan.lane_shards(0))) if lane else None
            )
            self.in_hand.append(order.shard)
        return order is not None

    def ripe(self, lane):
        """The shards that may go out."""
        held = {shard.index for shard in self.in_hand}
        free = set(self.catalog.pending(self.plan.lane_shards(lane))) - held
        return {index for index in free if self.plan.parents(index) is None or self.plan.parents(index) in self.catalog}

    def come_back(self, how, number):
        shard = self.in_hand.pop(number % len(self.in_hand))
        if how == "made":
            assert shard.index not in self.catalog
            self.catalog.add(shard.index)
            self.todo.made(shard.index)
        elif how == "broke":
            self.todo.broke(shard, RunError(Problem("LM1608", "it failed")))
        elif how == "back":
            self.todo.give_back(shard)
        else:
            self.todo.struck(shard, [])


@given(
    lanes=st.integers(2, 4),
    shards=st.integers(1, 6),
    before=st.sets(st.integers(0, 23)),
    steps=st.lists(st.tuples(st.sampled_from(["take", "made", "broke", "back", "struck"]), st.integers(0, 9))),
)
def test_in_whatever_order_shards_come_back_no_child_goes_out_before_its_parents(lanes, shards, before, steps):
    handing = Handing(lanes, shards, before)
    for what, number in steps:
        if what == "take":
            handing.take(number % lanes)
        elif handing.in_hand:
            handing.come_back(what, number)
        assert [handing.todo.waiting(lane) for lane in range(lanes)] == [
            len(handing.ripe(lane)) for lane in range(lanes)
        ]
    while not handing.catalog.complete:
        for lane in range(lanes):
            while handing.take(lane):
                pass
        assert handing.in_hand, "nothing is left to do, and it is not done"
        handing.come_back("made", 0)


def test_an_image_of_another_parent_is_a_fault_that_verify_and_reproduce_name(tmp_path):
    spec = make_spec(tmp_path, 6, **staged())
    drive(spec)
    bucket, manifest = opened(spec)
    bucket.delete("metadata/000000000.parquet")
    plain = manifest.model_dump_json().replace('"model":"fake"', '"model":"fake:natural=1"')
    bucket.put("manifest.json", plain.encode())
    changed = spec.model_copy(
        update={"stages": (spec.stages[0].model_copy(update={"model": "fake:natural=1"}), *spec.stages[1:])}
    )
    assert drive(changed).ends[-1][0] == 0
    (fault,) = faults(spec)
    assert (fault.code, fault.where) == ("LM1808", "metadata/000000002.parquet")
    assert "4 images were not made of the images before them" in fault.message
    leash = QuietLeash()
    order = ReproduceOrder(output=spec.output, storage=spec.storage, id="000000000000-0000-01")
    assert reproduce(order, leash) == 1
    assert "LM1617" in leash.images[0]["reason"]
    bucket.delete("metadata/000000000.parquet")
    leash = QuietLeash()
    assert reproduce(order, leash) == 1
    assert "its row has no image by now" in leash.images[0]["reason"]


def job(folder, text):
    path = folder / "job.yaml"
    path.write_text(f"prompts: {make_table(folder, 2)}\noutput: {folder / 'out'}\n{text}")
    return path


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("", "LM1102", "models is missing"),
        ("stages: [{model: fake}, {model: tiny}]\nmodels: [{model: fake}]", "LM1102", "models must be left out where"),
        ("stages: [{model: fake}]", "LM1102", "stages must have at least 2 items"),
        ("stages: [{model: fake}, {modle: tiny}]", "LM1101", 'unknown key "stages[1].modle"'),
        ("stages: [{model: fake}, {model: tiny}]\noverrides: [model]", "LM1102", "each row goes through all stages"),
    ],
)
def test_a_job_has_models_or_stages(tmp_path, text, code, said):
    with pytest.raises(InputError) as refusal:
        load_job(job(tmp_path, text), {})
    assert (code, True) in [(problem.code, said in problem.message) for problem in refusal.value.problems]


def test_a_models_flag_does_not_say_which_stage_it_is_for(tmp_path):
    path = job(tmp_path, "stages: [{model: fake}, {model: ./tiny}]")
    assert load_job(path, {}).stages[1].model == str(tmp_path / "tiny")
    with pytest.raises(UsageError, match=r"--batch-size does not say which of the job's 2 stages it is for"):
        load_job(path, {"batch_size": 3})


@pytest.mark.parametrize(
    ("stages", "overrides", "code", "said"),
    [
        ([FAKE, FAKE], [], "LM1206", "fake does not do image-to-image"),
        ([FAKE, {**TINY, "task": "inpainting"}], [], "LM1211", "tiny does inpainting"),
        ([FAKE, {**TINY, "task": "text-to-image"}], [], "LM1211", "tiny does text-to-image"),
        ([{**TINY, "task": "image-to-image"}, TINY], [], "LM1209", "needs a column of input images"),
        ([FAKE, {**TINY, "task": "image-to-image"}], ["strength"], "LM1210", "the first stage, which does text"),
        (
            [{**FAKE, "width": 1032}, {"model": "upscaler"}],
            [],
            "LM1211",
            "would make images of 4128x96, over 4096 pixels a side",
        ),
    ],
)
def test_stages_that_cannot_follow_each_other_are_refused_before_anything_runs(
    tmp_path, upscaler, stages, overrides, code, said
):
    stages = [{**one, "model": upscaler} if one["model"] == "upscaler" else one for one in stages]
    table = make_table(tmp_path, 2, **{name: [0.5, 0.5] for name in overrides})
    spec = make_spec(tmp_path, table=table, overrides=overrides, **staged(*stages))
    (refusal,) = forecast(spec, "all").refusals
    assert (refusal.code, said in refusal.message) == (code, True), refusal
    leash = drive(spec)
    assert leash.ends[-1][0] == 3
    assert code in [problem.code for problem in leash.errors[0].problems]


@pytest.mark.parametrize(
    ("later", "columns", "refused"),
    [
        ({"model": "coarse"}, {}, [("LM1006", "stages[1]")]),
        ({"model": "coarse", "width": 64}, {}, [("LM1006", "stages[1]")]),  # 24 pixels high
        ({"model": "coarse"}, {"width": [64, 32]}, []),
        ({**TINY, "strength": 0.3}, {}, [("LM1032", "stages[1]")]),
        ({**TINY, "strength": 0.3}, {"num_inference_steps": [9, 9]}, [("LM1032", "stages[1]")]),  # of the first alone
        ({**TINY, "strength": 0.3, "num_inference_steps": 4}, {}, []),
    ],
)
def test_what_a_job_itself_says_wrongly_is_refused_before_the_first_stage_is_made(tmp_path, later, columns, refused):
    card = {"name": "coarse", "title": "Coarse", "use": "Tests.", "tier": "clean", "license": "CC0-1.0", "id": "./m"}
    card |= {"training_data": "None.", "pipeline": "StableDiffusionPipeline", "sizes": [[64, 64]], "size_multiple": 16}
    (tmp_path / "coarse.yaml").write_text(json.dumps(card))
    (tmp_path / "m").symlink_to(tiny_folder())
    later = {**later, "model": str(tmp_path / "coarse.yaml")} if later["model"] == "coarse" else later
    table = make_table(tmp_path, 2, **columns)
    spec = make_spec(tmp_path, table=table, overrides=list(columns), **staged({**FAKE, "width": 40}, later))
    assert [(problem.code, problem.where) for problem in forecast(spec, "all").refusals] == refused
    alone = {**later, "width": 40, "height": 32, "strength": None}
    spec = make_spec(tmp_path, table=table, overrides=list(columns), models=[alone])
    assert bool(forecast(spec, "all").refusals) == ("coarse" in later["model"] and not columns)


def test_a_worker_refuses_what_nobody_could_look_at_before(tmp_path):
    """On a cluster the models are where the workers are."""
    paints = save_inpainting(tiny_folder(), tmp_path / "inpainting")
    leash = drive(make_spec(tmp_path, 2, **staged(FAKE, {"model": str(paints)})), address="elsewhere")
    assert leash.ends[-1][0] == 3
    assert leash.errors[0].problems[0].code == "LM1211"


def test_plan_shows_each_stage_with_the_size_that_it_will_have(tmp_path):
    stages = "[{model: stable-diffusion-2-1-base, width: 768}, {model: stable-diffusion-x4-upscaler}]"
    said = lightmill("plan", job(tmp_path, f"images_per_prompt: 2\nstages: {stages}"))
    lines = {line[:12].strip() + ": " + line[12:] for line in said.out.splitlines()}
    assert said.status == 0, said.err
    assert "stage 0: stable-diffusion-2-1-base, 768x512, 30 steps, guidance 7.5: 2 rows" in lines
    assert any(line.startswith("stage 1: stable-diffusion-x4-upscaler, upscale, 3072x2048") for line in lines), lines
    assert "images: 8 in 2 shards" in lines


def test_the_stages_are_what_the_output_is_held_to(tmp_path, undisturbed):
    other = undisturbed.model_copy(
        update={"stages": (undisturbed.stages[0], undisturbed.stages[1].model_copy(update={"strength": 0.5}))}
    )
    leash = drive(other)
    assert leash.ends[-1][0] == 3
    assert [(problem.code, problem.where) for problem in leash.errors[0].problems] == [("LM1307", "stages[1].strength")]


def test_stages_stand_side_by_side_and_on_the_card(undisturbed):
    found = line_up([opened(undisturbed)], 2)
    assert [heading[0] for heading in found.sheet.columns] == ["stage 0: fake", "stage 1: tiny"]
    assert found.missing == 0
    card = open_bucket(undisturbed.output).get("README.md").decode()
    assert "| stage | model |" in card
    assert "of those of the stage before" in card
