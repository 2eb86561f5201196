"""What a run makes of different jobs, with real Ray, and what it makes of them on every real store."""

import itertools
import time
from pathlib import Path

import duckdb
import pytest

from actors.clock import CAUSES
from builders import drive
from checker import check
from mill import make_job
from servers.store import S3Store

PARTI = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "PartiPrompts.tsv"
PARTI_ROWS = 32
CATS = [f"a cat, number {number}" for number in range(120)]
ONE, TWO = ({"min": count, "max": count} for count in (1, 2))


def test_a_slice_of_partiprompts_becomes_a_dataset(tmp_path):
    """A real table as it stands: tab-separated, and with quotes that belong to the prompts."""
    if not PARTI.exists():
        pytest.skip(f"PartiPrompts.tsv is not at {PARTI}")
    with PARTI.open(encoding="utf-8") as table:
        lines = list(itertools.islice(table, PARTI_ROWS + 1))
    (tmp_path / "parti.tsv").write_text("".join(lines), encoding="utf-8")
    job = make_job(
        tmp_path,
        [],
        prompts=str(tmp_path / "parti.tsv"),
        columns={"prompt": "Prompt"},
        model="tiny",
        num_inference_steps=2,
        workers=ONE,
        shard_size=16,
    )
    with job.start("--json") as run:
        outcome = run.end()
    assert outcome["totals"]["ok"] == PARTI_ROWS
    assert 0 < outcome["first_image"] < outcome["wall"]
    assert 0 < sum(outcome["seconds"].values()) < outcome["wall"]
    assert outcome["seconds"].keys() == set(CAUSES)
    assert outcome["seconds"]["other"] <= 0.02 * sum(outcome["seconds"].values())
    check(job)
    query = f"select prompt, \"Category\" from '{job.output}/metadata/*.parquet' order by source_row"
    assert duckdb.sql(query).fetchall() == [tuple(line.split("\t")[:2]) for line in lines[1:]]


def test_a_ray_of_its_own_has_no_autoscaler(tmp_path):
    job = make_job(tmp_path, CATS[:60], model="fake:pace=0.1")
    with job.start() as run:
        run.wait_until_painted(4)
        assert run.child.descendants("gcs_server")
        assert not run.child.descendants("ray/autoscaler")
        run.end()


def test_the_same_job_on_every_store(s3_store: S3Store, tmp_path):
    """Over HTTP and TLS. Half-way the store is killed and started again, and so is a worker."""
    job = make_job(tmp_path, CATS, output=s3_store.url, model="fake:pace=0.05")
    with job.start() as run:
        run.wait_until_painted(24)
        s3_store.server.kill_gateway()
        run.kill_painter()
        s3_store.server.start_gateway()
        run.end()
    assert job.made_again() <= 2
    check(job)


def test_rows_choose_model_size_and_seed_and_several_workers_make_the_bytes_that_one_makes(tmp_path):
    names = ["fake", "tiny"]
    rows = [
        {"prompt": f"{cat} by {names[number % 3 == 0]}", "model": names[number % 3 == 0], "seed": number % 5}
        | {"width": 32 + 8 * (number % 3), "height": 32 + 8 * (number % 2), "uid": f"cat/{number}", "mood": "calm"}
        for number, cat in enumerate(CATS[:40])
    ]
    job = make_job(
        tmp_path,
        rows,
        columns={"id": "uid"},
        overrides=["model", "seed", "width", "height"],
        models=[
            {"model": "fake", "width": 64, "height": 64, "workers": TWO},
            {"model": "tiny", "num_inference_steps": 2, "workers": ONE},
        ],
        images_per_prompt=2,
        shard_size=8,
    )
    with job.start() as run:
        run.end()
    assert check(job).ok == 80
    query = f"""
        select id, model, seed, width, height, mood
        from '{job.output}/metadata/*.parquet' where image_index = 1 order by source_row
    """
    assert duckdb.sql(query).fetchall() == [
        (row["uid"], row["model"], row["seed"] + 1, row["width"], row["height"], "calm") for row in rows
    ]


def test_memory_of_a_worker_does_not_grow_with_its_shard(tmp_path):
    """700 MB of pixels in one shard: of them 256 MiB may wait."""
    images = 900
    rows = [f"cat {number}" for number in range(images)]
    options = {"width": 512, "height": 512, "batch_size": 4, "workers": ONE, "encoding": {"format": "jpeg"}}
    job = make_job(tmp_path, rows, shard_size=images, **options)
    sizes = []
    with job.start() as run:
        run.wait_until_painted(4)
        worker = run.painter()
        while worker.is_running() and len(job.painted()) < images:
            sizes.append(worker.memory_info().rss)
            time.sleep(0.05)
        run.end()
    assert max(sizes) - sizes[0] < 400 << 20
    check(job)


def test_what_failed_is_made_by_retry(tmp_path):
    """First what failed for one reason, then the rest; what was good stays as it is."""
    cure = tmp_path / "cure"
    rows = [*CATS[:40]]
    rows[5], rows[23] = "boom", "another boom"
    rows[31] = " "
    job = make_job(tmp_path, rows, model=f"fake:fail=boom,cure={cure}", limits={"max_failed_share": 1.0})
    empty = {key(31): "LM1003"}
    with job.start() as run:
        run.end()
    check(job, {key(5): "LM1603", key(23): "LM1603", **empty})
    cure.touch()
    with job.start("--only", "LM9999", "--json", command="retry") as run:
        assert "nothing to retry" in run.end()["message"]
    with job.start("--only", "LM1603", command="retry") as run:
        run.end()
    check(job, empty)
    assert drive(job.spec, purpose="retry").ends[-1][0] == 0
    check(job, empty)
    painted = [name for name, _ in job.painted()]
    assert painted.count(key(5)) > 1
    assert painted.count(key(6)) <= 3, "its neighbours in the batch that raised, and nobody else"


def key(row: int) -> str:
    return f"{row:012d}-0000-00"
