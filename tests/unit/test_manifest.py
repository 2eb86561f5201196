"""What a job is held to once it was promised, and what it may change."""

import pytest

from actors import metadata
from actors.errors import InputError, Problem, RunError, Stopped, StorageError
from actors.records import Shard
from actors.storage.folder import FolderBucket
from actors.storage.opening import open_bucket
from builders import MODEL, NO_FENCE, drive, make_manifest, make_spec, make_table, replace_store
from jobs.claims import Claims
from jobs.lanes import default_threads
from jobs.manifest import Manifest
from jobs.order import RunOrder
from jobs.promise import make_promise, withdraw
from jobs.status import Status
from memory_bucket import MemoryBucket

HELD_TO = {
    "seed": 8,
    "images_per_prompt": 2,
    "shard_size": 5,
    "sink": "files",
    "encoding.format": {"encoding": {"format": "jpeg"}},
    "encoding.quality": {"encoding": {"format": "png", "quality": 90}},
    "checks.blank": {"checks": {"blank": "keep"}},
    "columns.prompt": {"columns": {"prompt": "text"}},
    "overrides": {"overrides": ["seed"]},
    "models[0].model": {"models": [{**MODEL, "model": "tiny"}]},
    "models[0].width": {"models": [{**MODEL, "width": 24}]},
    "models[0].height": {"models": [{**MODEL, "height": 24}]},
    "models[0].batch_size": {"models": [{**MODEL, "batch_size": 3}]},
    "models[0].num_inference_steps": {"models": [{**MODEL, "num_inference_steps": 3}]},
    "models[0].guidance_scale": {"models": [{**MODEL, "guidance_scale": 3.5}]},
    "models[0].negative_prompt": {"models": [{**MODEL, "negative_prompt": "blurred"}]},
    "models[0].dtype": {"models": [{**MODEL, "dtype": "float16"}]},
    "models[0].scheduler": {"models": [{**MODEL, "scheduler": "ddim"}]},
    "models[0].clip_skip": {"models": [{**MODEL, "clip_skip": 1}]},
    "models[0].vae": {"models": [{**MODEL, "vae": "./vae"}]},
    "models[0].loras": {"models": [{**MODEL, "loras": ["./lora.safetensors"]}]},
    "models[0].textual_inversions": {"models": [{**MODEL, "textual_inversions": ["./word.safetensors"]}]},
    "models[0].revision": {"models": [{**MODEL, "revision": "main"}]},
    "models[0].sha256": {"models": [{**MODEL, "sha256": "0" * 64}]},
    "models": {"models": [MODEL, MODEL]},
}
FREE = [
    {"name": "another"},
    {"limits": {"max_failed_share": 0.5, "max_attempts": 9}},
    {"storage": {"region": "eu-central-1"}},
    {
        "models": [
            {**MODEL, "workers": {"min": 2, "max": 7}, "gpus_per_worker": 0.5, "threads": 3, "mirror": "s3://m/x"}
        ]
    },
    {"models": [{**MODEL, "offload_text_encoders": True}]},
]
BASE = {"models": [MODEL]}


@pytest.fixture
def promised(tmp_path):
    bucket = MemoryBucket()
    return bucket, make_manifest(make_spec(tmp_path, **BASE), bucket)


def resume(bucket, spec):
    make_promise(bucket, RunOrder(spec=spec, check="none"), lambda text: None).keep(bucket, NO_FENCE)


@pytest.mark.parametrize("field", HELD_TO)
def test_another_recipe_is_refused_and_the_field_named(tmp_path, promised, field):
    bucket, manifest = promised
    change = HELD_TO[field] if isinstance(HELD_TO[field], dict) else {field: HELD_TO[field]}

    with pytest.raises(InputError) as refusal:
        resume(bucket, make_spec(tmp_path, table=manifest.spec.prompts, **{**BASE, **change}))
    assert [problem.where for problem in refusal.value.problems] == [field]
    assert {problem.code for problem in refusal.value.problems} == {"LM1307"}


@pytest.mark.parametrize("change", FREE, ids=str)
def test_what_changes_no_picture_may_change(tmp_path, promised, change):
    bucket, manifest = promised
    resume(bucket, make_spec(tmp_path, table=manifest.spec.prompts, **{**BASE, **change}))

    assert Manifest.load(bucket) == manifest


def test_every_field_that_differs_is_named_at_once(tmp_path, promised):
    bucket, manifest = promised
    with pytest.raises(InputError) as refusal:
        resume(bucket, make_spec(tmp_path, table=manifest.spec.prompts, seed=1, shard_size=9, **BASE))
    assert {problem.where for problem in refusal.value.problems} == {"seed", "shard_size"}


def test_a_table_of_another_content_is_refused(tmp_path, promised):
    bucket, manifest = promised
    make_table(tmp_path, 11)
    with pytest.raises(InputError, match=r"table\.version"):
        resume(bucket, make_spec(tmp_path, table=manifest.spec.prompts, **BASE))


def test_it_reads_back_as_it_was_written(promised):
    bucket, manifest = promised

    assert Manifest.load(bucket) == manifest
    assert manifest.plan.images == manifest.images == 10


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"", "LM1312"),
        (b"[]", "LM1312"),
        (b"{}", "LM1312"),
        (b'{"schema_version": 1}', "LM1312"),
        (b'{"schema_version": 2, "news": true}', "LM1313"),
    ],
)
def test_a_manifest_that_is_none_or_too_new_is_refused(text, code):
    bucket = MemoryBucket()
    bucket.put("manifest.json", text)
    with pytest.raises(InputError, match=code):
        Manifest.load(bucket)


def promise_of(folder, bucket, store="strong", **changes):
    order = RunOrder(spec=make_spec(folder, **{**BASE, **changes}), check="none")
    return replace_store(make_promise(bucket, order, lambda text: None), store)


def test_whoever_promised_first_is_the_one_the_others_are_held_to(tmp_path):
    bucket = MemoryBucket()
    same, another = promise_of(tmp_path / "a", bucket), promise_of(tmp_path / "b", bucket, seed=5)
    manifest = same.keep(bucket, NO_FENCE)

    assert same.keep(bucket, NO_FENCE) == manifest
    with pytest.raises(InputError, match="LM1307"):
        another.keep(bucket, NO_FENCE)


def test_the_store_is_asked_to_keep_a_promise_that_came_in_between(tmp_path):
    bucket = MemoryBucket()
    first, late = promise_of(tmp_path / "a", bucket), promise_of(tmp_path / "b", bucket, seed=5)

    def before_write(key, size):
        bucket.before_write = lambda key, size: None
        first.keep(bucket, NO_FENCE)

    bucket.before_write = before_write

    with pytest.raises(InputError, match="seed was 0, is now 5"):
        late.keep(bucket, NO_FENCE)
    assert Manifest.load(bucket).spec.seed == 0


def test_a_lost_reply_to_the_promise_is_no_refusal(tmp_path):
    bucket = MemoryBucket()
    promise = promise_of(tmp_path, bucket)
    put = bucket.put

    def twice(key, data, **named):
        bucket.put = put
        put(key, data, **named)
        return put(key, data, **named)

    bucket.put = twice

    assert promise.keep(bucket, NO_FENCE) == Manifest.load(bucket)


FP8 = {"model": "tiny", "compile": True, "shortcuts": {"quantization": "fp8"}}
"""What a worker refuses, on a machine without a GPU."""


def test_a_job_that_its_workers_refuse_binds_no_output(tmp_path):
    leash = drive(make_spec(tmp_path, models=[FP8]))
    assert [error.problems[0].code for error in leash.errors] == ["LM1225"]
    bucket = open_bucket(str(tmp_path / "out"))
    assert Manifest.load(bucket) is None
    assert Status.load(bucket).state == "failed"
    assert drive(make_spec(tmp_path, models=[MODEL], seed=5)).ends[-1][0] == 0
    assert Manifest.load(bucket).spec.seed == 5


def test_what_holds_a_commit_stays_bound(tmp_path):
    bucket = MemoryBucket()
    manifest = promise_of(tmp_path, bucket).keep(bucket, NO_FENCE)
    bucket.put(metadata.key(Shard(0, 0, 0, 4)), b"")
    withdraw(manifest, bucket, NO_FENCE)
    assert Manifest.load(bucket) == manifest


def test_who_saw_a_promise_that_was_taken_back_since_makes_it_again(tmp_path):
    bucket, order = MemoryBucket(), RunOrder(spec=make_spec(tmp_path), check="none")
    manifest = make_promise(bucket, order, lambda text: None).keep(bucket, NO_FENCE)
    waiting = make_promise(bucket, order, lambda text: None)  # for the lease
    withdraw(manifest, bucket, NO_FENCE)
    assert Manifest.load(bucket) is None
    assert waiting.keep(bucket, NO_FENCE) == manifest == Manifest.load(bucket)
    assert waiting.is_new


def test_a_promise_that_may_be_taken_back_yet_keeps_the_next_driver_out(tmp_path, monkeypatch):
    """Until the lease has ended by itself: the store's answer is lost, and nobody knows what it did."""

    delete = FolderBucket.delete

    def lost(self, key):
        if key == "manifest.json":
            raise StorageError(Problem("LM1302", "no answer"))
        delete(self, key)

    monkeypatch.setattr(FolderBucket, "delete", lost)
    leash = drive(make_spec(tmp_path, models=[FP8]))
    assert [error.problems[0].code for error in leash.errors] == ["LM1225"]
    (claim,) = Claims.read(open_bucket(str(tmp_path / "out"))).all
    assert claim.state == "held"


@pytest.mark.parametrize("error", [RunError, Stopped])
@pytest.mark.parametrize("fences", [1, 2])
def test_who_has_lost_the_lease_takes_nothing_back(tmp_path, fences, error):
    """Also where it was lost in the very moment: another driver may be at work by then."""
    bucket = MemoryBucket()
    manifest = promise_of(tmp_path, bucket).keep(bucket, NO_FENCE)
    asked = []

    def lost():
        asked.append(1)
        if len(asked) == fences:
            raise error(Problem("LM1310", "lost"))

    with pytest.raises(error):
        withdraw(manifest, bucket, lost)
    assert Manifest.load(bucket) == manifest


SHARDS = 6


@pytest.mark.parametrize(
    ("processors", "workers", "threads"),
    [(2, (1,), (2,)), (2, (2,), (1,)), (16, (2, 3), (3, 3)), (2, (5,), (1,)), (64, (2,), (8,)), (12, (100,), (2,))],
)
def test_workers_of_one_machine_share_its_processors(tmp_path, monkeypatch, processors, workers, threads):
    monkeypatch.setattr("jobs.lanes.processors", lambda: processors)
    models = [{"model": f"fake:seed={n}" if n else "fake", "workers": {"max": most}} for n, most in enumerate(workers)]
    spec = make_spec(tmp_path, models=models, overrides=["model"] if len(models) > 1 else [])
    assert default_threads(spec, SHARDS, alone=True) == threads
    assert set(default_threads(spec, SHARDS, alone=False)) == {min(processors, 8)}
    said = spec.model_copy(update={"models": tuple(one.model_copy(update={"threads": 7}) for one in spec.models)})
    assert set(default_threads(said, SHARDS, alone=True)) == {7}


@pytest.mark.parametrize("store", ["strong", "racy", "ignoring"])
def test_nothing_is_promised_once_the_lease_is_lost(tmp_path, store):
    bucket = MemoryBucket()

    def lost():
        raise RunError(Problem("LM1310", "lost"))

    with pytest.raises(RunError, match="lost"):
        promise_of(tmp_path, bucket, store).keep(bucket, lost)
    assert Manifest.load(bucket) is None
