"""Bad input through the real command line: each kind has its code and its exit status, and says where, which value
and what to do. In the order of their codes."""

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import diffusers
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from actors.machine import Gpu
from actors.models import accelerator
from actors.models.tiny import tiny_folder
from actors.storage import opening
from builders import MODEL, drive, finished, make_spec, read_rows
from commands import Said, lightmill, plan
from jobs import forecast
from servers.rgw import RgwServer
from servers.store import S3Store, place_on

DRILL = b"""<?xml version="1.0"?><Error><Code>%s</Code><Message>as the test wants it</Message></Error>"""
GOOD = "prompt\n" + "".join(f"a picture of {number} cats\n" for number in range(300))
STEERING = ("seed", "width", "height", "num_inference_steps", "guidance_scale")


@pytest.fixture
def write(tmp_path):
    """Write a file of this name and content."""

    def create(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return create


def refused(said: Said, code: str, *words: str, status: int = 3) -> None:
    """It ended so, with this code, these words, and one thing to do."""
    assert said.status == status, said
    assert code in said.codes
    for word in (*words, "help: "):
        assert word in said.err, said.err
    assert "Traceback" not in said.err


def run(prompts: str | Path, output: str | Path, *words: str) -> Said:
    return lightmill("run", "--prompts", prompts, "--output", output, "--model", "fake", *words)


@contextmanager
def answering(status: int, code: str, date: datetime | None = None) -> Iterator[str]:
    """A store that answers every request like this; its endpoint."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = DRILL % code.encode()
            self.send_response_only(status)
            self.send_header("Date", format_datetime(date or datetime.now(UTC), usegmt=True))
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_lm1000_there_is_no_table(tmp_path):
    refused(plan(tmp_path / "none.csv"), "LM1000", str(tmp_path / "none.csv"))
    refused(plan(tmp_path / "*.csv"), "LM1000")
    refused(run(tmp_path / "none.csv", tmp_path / "out"), "LM1000")
    assert not (tmp_path / "out").exists()


def test_lm1001_a_column_is_missing(write):
    refused(
        plan(write("a.csv", "Prompt,id\na,b\n")), "LM1001", '"prompt" not found', '"Prompt"', "--column prompt=Prompt"
    )


@pytest.mark.parametrize("content", ["", "prompt\n", "prompt,id\n"])
def test_lm1002_there_are_no_rows(write, content):
    refused(plan(write("a.csv", content)), "LM1002", "a.csv")


def test_lm1002_a_parquet_file_without_rows(tmp_path):
    pq.write_table(pa.table({"prompt": pa.array([], pa.string())}), tmp_path / "a.parquet")
    refused(plan(tmp_path / "a.parquet"), "LM1002", "a.parquet")


def test_lm1003_an_empty_prompt(write):
    refused(plan(write("a.csv", "prompt,x\na,\n ,y\n,z\n")), "LM1003", "2 rows", "a.csv:3:prompt")


def test_lm1004_a_null_prompt(tmp_path):
    pq.write_table(pa.table({"prompt": ["a", None]}), tmp_path / "a.parquet")
    refused(plan(tmp_path / "a.parquet"), "LM1004", "null", "a.parquet:1:prompt")


def test_lm1005_more_tokens_than_the_text_encoder_reads(write):
    """A warning: the row is made, and its metadata says how much was cut."""
    long = " ".join(["otter"] * 100)
    prompts = write("a.csv", f"prompt\nshort\n{long}\n")
    said = plan(prompts, "--model", tiny_folder())
    assert (said.status, said.codes) == (0, ["LM1232", "LM1005"])
    assert f"{prompts}:3" in said.err
    assert "77 tokens" in said.err


@pytest.mark.parametrize(
    ("code", "row", "words"),
    [
        ("LM1006", ",513,768,,", ["513x768: width must be a multiple of 8", "use 512 or 520", ":2:width"]),
        ("LM1006", ",512,7.5,,", ["height 7.5 is not a whole number"]),
        ("LM1007", ",0,512,,", ["0x512: width must be from 8 to 4096"]),
        ("LM1007", ",-8,512,,", ["-8x512"]),
        ("LM1007", ",99999,512,,", ["99999x512", "GiB"]),
        ("LM1008", ",,,,nan", ["guidance_scale nan"]),
        ("LM1008", ",,,,inf", ["guidance_scale inf"]),
        ("LM1008", ",,,,-1", ["guidance_scale -1"]),
        ("LM1009", ",,,0,", ["num_inference_steps 0", "from 1 to 1000"]),
        ("LM1009", ",,,1001,", ["num_inference_steps 1001"]),
        ("LM1009", ",,,2.5,", ["num_inference_steps 2.5"]),
        ("LM1010", "-1,,,,", ["seed -1 is not between"]),
        ("LM1010", "9223372036854775808,,,,", ["seed 9223372036854775808"]),
        ("LM1010", "1.5,,,,", ["seed 1.5 is not an exact integer"]),
    ],
)
def test_lm1006_to_lm1010_a_parameter_that_cannot_be(write, code, row, words):
    prompts = write("a.csv", f"prompt,{','.join(STEERING)}\nfox,{row}\n")
    refused(plan(prompts, "--override", ",".join(STEERING)), code, "value: ", *words)


def test_columns_that_are_not_overrides_may_hold_anything(write):
    assert plan(write("a.csv", f"prompt,{','.join(STEERING)}\nfox,a,b,c,d,e\n")).status == 0


def test_lm1011_an_id_twice(write):
    prompts = write("a.csv", "prompt,id\na,x1\nb,x2\nc,x1\n")
    refused(plan(prompts), "LM1011", '"x1"', f"{prompts}:2 and {prompts}:4")
    assert plan(prompts, "--check", "sample").status == 0, "only a look at every row can tell"


def test_lm1012_an_id_of_more_than_a_kibibyte(write):
    refused(plan(write("a.csv", f"prompt,id\na,{'x' * 1025}\n")), "LM1012", "1,025 bytes")


def test_any_other_id_goes_and_stays_what_it_is(tmp_path):
    """Numbers that look like others (007), separators, dots and 1,024 bytes: an id is data and no part of a name."""
    ids = ["007", "7", "v1.5/cat", "..", "../../etc/passwd", "a b", "\u732b", "x" * 1024]
    prompts = tmp_path / "a.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": "a cat", "id": id_}) + "\n" for id_ in ids))
    assert plan(prompts).status == 0
    spec = finished(tmp_path, table=str(prompts))
    assert sorted(row["id"] for row in read_rows(spec).values()) == sorted(ids)


def test_lm1013_a_row_names_a_model_that_the_job_has_not(write):
    refused(plan(write("a.csv", "prompt,model\na,other\n"), "--override", "model"), "LM1013", "'other'", ":2:model")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"prompt\na\ncaf\xe9\n", ["byte 0xE9 at line 3", "iconv -f latin-1 -t utf-8 a.csv"]),
        ("prompt\na\n".encode("utf-16"), ["utf-16"]),
    ],
)
def test_lm1014_not_utf8(write, content, words):
    refused(plan(write("a.csv", content)), "LM1014", *words)


def test_lm1015_invisible_characters_are_taken_out(tmp_path):
    """A warning, with the count; `status` shows what is made."""
    spec = finished(tmp_path, ["a \u202eraven\u200b", "\x1b[31ma red fox"])
    said = plan(spec.prompts, output=tmp_path / "another")
    assert (said.status, said.codes) == (0, ["LM1015"])
    assert "2 rows" in said.err
    assert [row["prompt"] for row in read_rows(spec).values()] == ["a raven", "[31ma red fox"]


def test_lm1016_a_row_too_large(write):
    prompts = write("a.csv", GOOD + "x" * 70_000 + "\n")
    said = plan(prompts)
    assert (said.status, said.codes) == (0, ["LM1016"]), "one bad row of 301 is allowed"
    assert "70,000 bytes" in said.err
    assert len(said.err) < 1000, "the value is cut"
    refused(plan(write("b.csv", "prompt\n" + "x" * (17 << 20))), "LM1016", "line 2", "16 MiB")


def test_lm1017_lines_of_other_lengths(write):
    prompts = write("a.csv", "prompt,id\na,b\na red fox, sitting,c\n")
    refused(plan(prompts), "LM1017", "line 3 has 3 fields, the header has 2", f"{prompts}:3", "double quotes")


@pytest.mark.parametrize(("name", "content"), [("a.csv", 'prompt\n"never closed\n'), ("a.jsonl", '{"prompt": \n')])
def test_lm1017_lines_of_another_form(write, name, content):
    refused(plan(write(name, content)), "LM1017", f"{name}:")


@pytest.mark.parametrize("name", ["a.parquet", "a.csv.gz", "a.xlsx"])
def test_lm1018_not_the_table_that_its_name_says(write, name):
    refused(plan(write(name, "prompt\na\n" * 500)), "LM1018", name)


def test_lm1018_half_a_parquet_file(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"prompt": ["a"] * 1000}), path)
    path.write_bytes(path.read_bytes()[:-100])
    refused(plan(path), "LM1018", "a.parquet", "cut short")


def test_lm1019_files_with_different_columns(tmp_path):
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "1.csv").write_text("prompt,id\na,b\n")
    (tmp_path / "t" / "2.csv").write_text("prompt,x\na,b\n")
    refused(plan(tmp_path / "t"), "LM1019", 'has no "id"', 'has "x" besides', "2.csv")


def test_lm1020_a_table_that_expands_to_gigabytes(tmp_path):
    path = tmp_path / "bomb.parquet"
    pq.write_table(
        pa.table(
            {"prompt": pa.DictionaryArray.from_arrays(pa.array([0] * 2000, pa.int32()), pa.array(["x" * 1_000_000]))}
        ),
        path,
    )
    assert path.stat().st_size < 200_000
    refused(plan(path), "LM1020", "would expand")


def test_lm1021_a_column_twice(write):
    refused(plan(write("a.csv", "prompt,prompt\na,b\n")), "LM1021", '"prompt"')


def test_lm1023_more_bad_rows_than_may_fail(write):
    prompts = write("a.csv", "prompt,x\na,\n,y\n")
    refused(plan(prompts), "LM1023", "1 of 2 rows", "50.0%")
    refused(run(prompts, prompts.parent / "out"), "LM1023", "LM1003")
    assert not (prompts.parent / "out").exists(), "nothing is written for a job that is refused"


def test_several_tables_faults_at_once(tmp_path):
    for name, content in (("1.csv", b"prompt\ncaf\xe9\n"), ("2.csv", b"prompt\na,b\n"), ("3.csv", b"")):
        (tmp_path / name).write_bytes(content)
    assert plan(tmp_path / "*.csv").codes == ["LM1014", "LM1017", "LM1002"]


def test_lm1101_and_lm1102_a_job_file_with_faults(write):
    job = write(
        "job.yaml",
        "prompts: a.csv\noutput: o\nmodels:\n- model: fake\n  guidence_scale: 7\nstorage: {endpoint_url: 9000}\n",
    )
    said = lightmill("run", job)
    refused(said, "LM1101", f"{job}:5", "did you mean guidance_scale?")
    refused(said, "LM1102", f"{job}:6", "storage.endpoint_url must be a URL", "value: 9000")


def test_lm1103_flags_that_contradict_each_other(write):
    job = write("job.yaml", "prompts: a.csv\noutput: o\nmodels: [{model: fake}, {model: tiny}]\n")
    refused(lightmill("run", job, "--width", "64"), "LM1103", "--width", status=2)


@pytest.mark.parametrize("command", ["plan", "run"])
def test_lm1106_an_output_that_is_neither_folder_nor_s3(write, command):
    words = ("--prompts", write("a.csv", GOOD), "--output", "ftp://host/x", "--model", "fake")
    refused(lightmill(command, *words), "LM1106", "ftp://host/x")


def test_lm1201_a_model_that_is_not_there(write):
    refused(plan(write("a.csv", GOOD), "--model", "tinny"), "LM1201", '"tinny" not found', "tiny")


def test_lm1204_weights_that_may_run_code(write, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder(), folder)
    for weights in (folder / "unet").glob("*.safetensors"):
        weights.rename(weights.with_suffix(".bin"))
    refused(plan(write("a.csv", GOOD), "--model", folder), "LM1204", "unet", "safetensors")


def test_the_weights_that_were_used_are_recorded(tmp_path):
    """There is no revision of a folder to pin: the hash of its weights is in every row."""
    spec = make_spec(tmp_path, 1, model=str(tiny_folder()))
    assert drive(spec).ends[-1][0] == 0
    (row,) = read_rows(spec).values()
    assert len(row["weights_sha256"]) == 64


def test_lm1205_a_device_that_is_too_small(tmp_path, monkeypatch):
    """As CUDA says it; there need be none here."""

    def no_room(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    monkeypatch.setattr(diffusers.DiffusionPipeline, "to", no_room)
    leash = drive(make_spec(tmp_path, 1, model=str(tiny_folder())))
    assert leash.ends[-1][0] == 3
    (problem,) = leash.errors[-1].problems
    assert problem.code == "LM1205"
    assert "the weights of StableDiffusionPipeline take 0.0 GiB" in problem.message


def test_lm1212_a_gpu_that_torch_cannot_use(tmp_path, monkeypatch):
    """As with a driver that is too old, where torch finds none."""
    there = [Gpu("NVIDIA H200", 141 << 30, 140 << 30, "535.1")]
    monkeypatch.setattr(accelerator, "has_driver", lambda: True)
    monkeypatch.setattr(accelerator, "gpus", lambda: there)
    model = {**MODEL, "model": str(tiny_folder()), "gpus_per_worker": 1}
    leash = drive(make_spec(tmp_path, 1, models=[model]))
    assert leash.ends[-1][0] == 3
    (problem,) = leash.errors[-1].problems
    assert (problem.code, problem.value) == ("LM1212", "NVIDIA H200, driver 535.1")


def test_lm1206_a_folder_that_is_no_model(write, tmp_path):
    refused(plan(write("a.csv", GOOD), "--model", tmp_path), "LM1206", "model_index.json")


def test_lm1206_a_part_that_is_missing_is_named(write, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder(), folder)
    shutil.rmtree(folder / "unet")
    refused(plan(write("a.csv", GOOD), "--model", folder), "LM1206", "the folder lacks unet/ (UNet2DConditionModel)")


def test_lm1224_a_model_without_its_weights_is_refused_by_run_and_not_by_plan(write, tmp_path):
    prompts = write("a.csv", GOOD)
    assert plan(prompts, "--model", "flux-1-schnell").status == 0
    refused(run(prompts, tmp_path / "out", "--model", "flux-1-schnell"), "LM1224", "is not on this machine")


def test_lm1208_a_card_that_cannot_be_used(write, tmp_path):
    card = tmp_path / "mine.yaml"
    card.write_text("name: mine\ntier: cleen\n")
    refused(plan(write("a.csv", GOOD), "--model", card), "LM1208", "tier must be", f"{card}:2")


def test_lm1206_what_only_diffusers_finds_is_told_by_the_worker_on_ray(write, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder(), folder)
    (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"cut short")
    refused(run(write("a.csv", GOOD), tmp_path / "out", "--model", folder), "LM1206", "cannot load")


def test_lm1301_a_bucket_that_is_not_there(write, moto_store: S3Store):
    prompts = write("a.csv", GOOD)
    refused(plan(prompts, output="s3://no-such-bucket/x"), "LM1301", '"no-such-bucket"', moto_store.endpoint, status=5)
    refused(run(prompts, "s3://no-such-bucket/x"), "LM1301", status=5)
    refused(lightmill("status", "s3://no-such-bucket/x"), "LM1301", status=5)


def test_lm1302_a_place_where_one_may_not_write(write, rgw: RgwServer, monkeypatch):
    store = place_on(rgw, rgw.endpoint, monkeypatch)
    deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{store.bucket}/*"}
    with store.client() as s3:
        s3.put_bucket_policy(Bucket=store.bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [deny]}))
    said = run(write("a.csv", GOOD), store.url)
    refused(said, "LM1302", "s3:PutObject denied", store.url, "...T001", '"Allow"', status=5)
    assert rgw.access_key not in said.err


def test_lm1303_a_secret_that_is_not_the_stores(write, rgw: RgwServer, monkeypatch):
    store = place_on(rgw, rgw.endpoint, monkeypatch)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-one")
    said = plan(write("a.csv", GOOD), output=store.url)
    refused(said, "LM1303", "AWS_SECRET_ACCESS_KEY", status=5)
    assert "another-one" not in said.err


def test_lm1303_no_credentials_at_all(write, moto_store: S3Store, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    refused(plan(write("a.csv", GOOD), output=moto_store.url), "LM1303", "no credentials", status=5)


@pytest.mark.parametrize(
    ("code", "status", "said", "behind", "words"),
    [
        ("LM1303", 400, "ExpiredToken", 0, ["ExpiredToken", "renew"]),
        ("LM1304", 403, "RequestTimeTooSkewed", 61, ["clock is 61 min behind", "NTP"]),
        ("LM1304", 403, "AccessDenied", -61, ["clock is 61 min ahead", "NTP"]),
        ("LM1305", 411, "MissingContentLength", 0, ["checksums: when_required"]),
        ("LM1308", 503, "SlowDown", 0, ["storage.endpoint_url"]),
    ],
)
def test_lm1303_to_lm1308_what_a_store_may_answer(write, monkeypatch, code, status, said, behind, words):
    """A store of a few lines: no server at hand has a wrong clock, or an answer to everything."""
    monkeypatch.setattr(opening, "FIRST_MEETING_SECONDS", 1.0)
    monkeypatch.setattr(forecast, "FIRST_MEETING_SECONDS", 1.0)
    with answering(status, said, datetime.now(UTC) + timedelta(minutes=behind)) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIALIGHTMILLTEST001")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        refused(plan(write("a.csv", GOOD), output="s3://bucket/x"), code, endpoint, *words, status=5)


def test_lm1306_a_store_that_ignores_preconditions(tmp_path, rclone, monkeypatch):
    """A note, and the lease alone keeps a second driver out."""
    store = place_on(rclone, rclone.endpoint, monkeypatch)
    leash = drive(make_spec(tmp_path, 2, output=store.url))
    assert leash.ends[-1][0] == 0
    (note,) = [text for text in leash.said if "LM1306" in text]
    assert note.startswith("note[LM1306]: the store of s3://")
    assert "ignores conditional writes" in note


@pytest.mark.parametrize("command", ["plan", "run"])
def test_lm1307_an_output_that_holds_another_job(tmp_path, command):
    spec = finished(tmp_path)
    job = tmp_path / "job.json"
    job.write_text(json.dumps({**spec.dump(), "seed": 8, "images_per_prompt": 2}))
    said = lightmill(command, job)
    refused(said, "LM1307", spec.output, "seed was 0, is now 8", "images_per_prompt was 1, is now 2")


def test_lm1307_a_table_that_is_no_longer_the_one(tmp_path):
    spec = finished(tmp_path)
    pq.write_table(pa.table({"prompt": ["another"] * 10}), spec.prompts)
    job = tmp_path / "job.json"
    job.write_text(json.dumps(spec.dump()))
    refused(lightmill("run", job), "LM1307", "table.version")


def test_lm1312_and_lm1313_an_output_that_this_version_cannot_read(tmp_path):
    spec = finished(tmp_path)
    manifest = Path(spec.output, "manifest.json")
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "schema_version": 99}))
    refused(lightmill("verify", spec.output), "LM1313", "newer lightmill")
    manifest.write_text("{}")
    refused(lightmill("verify", spec.output), "LM1312", "manifest.json")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_lm1401_a_full_disk_before_anything_is_generated(write, small_disk):
    """The table does not fit in the output, where it is rewritten."""
    rows = "".join(f"{os.urandom(50).hex()}\n" for _ in range(20_000))
    refused(run(write("a.csv", f"prompt\n{rows}"), small_disk / "out"), "LM1401", "bytes free in", status=5)


def test_lm1401_a_full_disk_under_a_worker_is_resumed_once_there_is_room(tmp_path, small_disk):
    (small_disk / "ballast").write_bytes(b"x" * 700_000)
    spec = make_spec(
        tmp_path, 40, output=str(small_disk / "out"), models=[{"model": "fake", "width": 128, "height": 128}]
    )
    job = tmp_path / "job.json"
    job.write_text(json.dumps(spec.dump()))
    refused(lightmill("run", job), "LM1401", "bytes free in", status=5)
    (small_disk / "ballast").unlink()
    subprocess.run(["mount", "-o", "remount,size=16m", small_disk], check=True)
    again = drive(spec)
    assert again.ends[-1][0] == 0, again.errors
    assert lightmill("verify", spec.output).status == 0


def test_lm1601_pictures_that_are_none_are_failed_rows(tmp_path):
    rows = ["a red fox", "black", "an owl"]
    spec = make_spec(tmp_path, rows, model="fake:blank=black")
    assert drive(spec).ends[-1][0] == 0
    found = {row["prompt"]: row for row in read_rows(spec).values()}
    assert [found[prompt]["status"] for prompt in rows] == ["ok", "failed", "ok"]
    assert (found["black"]["error_code"], found["black"]["file"]) == ("LM1601", None)
    assert found["black"]["seed_rejected"] is not None
    assert "black" in found["black"]["error"]
