"""The command line as a shell and a person meet it: exit statuses, what goes to which stream, and nothing else."""

import json
import os
import pty
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from actors.storage.opening import open_bucket
from builders import finished
from cluster.child import Child
from cluster.cli import inspection
from commands import lightmill, plan
from jobs import forecast
from jobs.lease import Lease
from jobs.manifest import Manifest
from jobs.order import RunOrder
from jobs.spec import JobSpec
from jobs.status import KEY, Status
from jobs.verify import verify

COMMANDS = ("run", "plan", "status", "verify", "retry", "clean", "demo", "reproduce", "compare")
HEAVY = (
    "pyarrow",
    "ray",
    "torch",
    "diffusers",
    "transformers",
    "boto3",
    "botocore",
    "pydantic_settings",
    "numpy",
    "yaml",
)
"""Not pydantic itself: Typer loads it, to convert what a command is given."""
HELP_ONLY = """
import sys
from cluster.cli.app import main
try:
    main(sys.argv[1:])
finally:
    heavy = sorted(set(sys.modules) & set({heavy!r}))
    print("HEAVY", heavy, file=sys.stderr)
"""


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "prompts.csv"
    path.write_text("prompt\na red fox\nan owl\n")
    return path


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A finished job of ten images."""
    return finished(tmp_path_factory.mktemp("done"))


def put_status(folder: Path, age=timedelta(0), **changes):
    """A heartbeat of this age."""
    written = datetime.now(UTC) - age
    values = {
        "name": "cats",
        "output": str(folder),
        "state": "running",
        "total": 100,
        "done": 40,
        "committed": 32,
        "failed": 1,
        "filtered": 0,
        "images_per_second": 2.0,
        "eta_seconds": 30.0,
        "workers": 1,
        "workers_wanted": 2,
        "seconds": {"denoise": 90.0, "load": 10.0},
        "started_at": written,
        "updated_at": written,
    }
    status = Status.model_validate({**values, **changes})
    open_bucket(str(folder)).put(KEY, status.model_dump_json().encode())
    os.utime(folder / KEY, (written.timestamp(), written.timestamp()))


@pytest.mark.parametrize("command", [(), *((command,) for command in COMMANDS)])
def test_help_has_an_example_and_loads_nothing_heavy(command):
    program = HELP_ONLY.format(heavy=HEAVY)
    said = subprocess.run(
        [sys.executable, "-c", program, *command, "--help"], capture_output=True, text=True, check=True
    )
    assert f"Example: lightmill {' '.join(command)}" in " ".join(said.stdout.split())
    assert said.stderr.splitlines()[-1] == "HEAVY []"


def test_no_arguments_show_the_help():
    said = lightmill()
    assert said.status == 2
    assert "Commands" in said.out + said.err


def test_the_version_goes_to_standard_output():
    said = lightmill("--version")
    assert (said.status, said.err) == (0, "")
    assert said.out.startswith("lightmill 0.")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["plan", "--sed", "3"], "No such option: --sed"),
        (["plan", "--seed", "x"], "Invalid value for '--seed': it must be a valid integer"),
        (["plan", "--check", "most"], "Invalid value for '--check'"),
        (["run", "--column", "prompt"], "'prompt' is not NAME=COLUMN"),
        (["status"], "Missing argument 'OUT | JOB'"),
        (["clean"], "Missing argument 'OUT'"),
        (["reproduce", "out", "--all", "--sample", "0"], "Invalid value for '--sample'"),
        (["verify", "out", "--sample", "2"], "Invalid value for '--sample'"),
        (["grind"], "No such command 'grind'"),
    ],
)
def test_a_line_that_cannot_be_read_is_exit_status_2(words, message):
    said = lightmill(*words)
    assert (said.status, said.out, said.codes) == (2, "", ["LM1105"])
    assert message in said.err
    assert "--help" in said.err


def test_a_good_plan_is_exit_status_0(table):
    assert plan(table).status == 0


def test_conflicting_flags_are_exit_status_2(tmp_path, table):
    job = tmp_path / "job.yaml"
    job.write_text(f"prompts: {table}\noutput: out\nmodels: [{{model: fake}}, {{model: tiny}}]\n")
    said = lightmill("plan", job, "--width", "64")
    assert (said.status, said.codes) == (2, ["LM1103"])
    assert lightmill("plan", "--prompts", table).codes == ["LM1103"]


def test_no_job_is_exit_status_3(tmp_path):
    for command in ("status", "verify", "clean", "retry", "reproduce"):
        words = ["7"] if command == "reproduce" else []
        said = lightmill(command, tmp_path / "nothing", *words)
        assert (said.status, said.codes) == (3, ["LM1316"])
        assert str(tmp_path / "nothing") in said.err


def test_too_many_failures_are_exit_status_4(tmp_path, monkeypatch):
    """A finished job starts no Ray, so its numbers alone decide."""
    spec = finished(tmp_path, ["a red fox", "boom", "an owl"], model="fake:fail=boom")
    job = tmp_path / "job.yaml"
    job.write_text(json.dumps(spec.dump()))
    assert lightmill("run", job).status == 0
    monkeypatch.setenv("LIGHTMILL_LIMITS__MAX_FAILED_SHARE", "0.1")
    said = lightmill("run", job, "--json")
    assert (said.status, said.codes) == (4, ["LM1611"])
    assert f"lightmill retry {spec.output}" in said.err
    assert (said.json["exit_code"], said.json["totals"]["failed"]) == (4, 1)
    assert [problem["code"] for problem in said.json["problems"]] == ["LM1611"]


def test_an_unforeseen_exception_is_a_sentence_and_exit_status_1(table, monkeypatch):
    def surprise(*_):
        raise ZeroDivisionError("a surprise")

    monkeypatch.setattr(forecast, "forecast", surprise)
    said = plan(table)
    assert (said.status, said.codes) == (1, ["LM1999"])
    assert "ZeroDivisionError: a surprise" in said.err
    assert "--debug" in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize("debug", [["--debug", "status"], ["status", "--debug"]])
def test_debug_shows_the_traceback_wherever_it_stands(tmp_path, debug):
    said = lightmill(*debug, tmp_path)
    assert said.status == 3
    assert "Traceback" in said.err
    assert "Traceback" not in lightmill("status", tmp_path).err


def test_an_error_of_the_driver_has_no_traceback_either(tmp_path):
    said = lightmill("run", "--prompts", tmp_path / "none.csv", "--output", tmp_path / "out", "--model", "fake")
    assert (said.status, said.codes) == (3, ["LM1000"])
    assert "Traceback" not in said.err


def test_a_job_of_any_length_reaches_its_driver(tmp_path):
    """It is longer than an argument may be, and than a pipe holds."""
    values = {"prompts": str(tmp_path / "none.csv"), "output": str(tmp_path), "models": [{"model": "fake"}]}
    patterns = [f"{number:0100d}" for number in range(3000)]
    spec = JobSpec.model_validate({**values, "prompt_filter": {"patterns": patterns}})
    *_, refusal, end = Child(RunOrder(spec=spec)).events()
    assert (refusal["problems"][0]["code"], end["exit_code"]) == ("LM1000", 3)


@pytest.mark.parametrize(
    "words",
    [("status",), ("verify",), ("clean", "--dry-run")],
)
def test_json_is_one_object_and_talk_goes_elsewhere(done, words):
    said = lightmill(words[0], done.output, *words[1:], "--json")
    assert said.status == 0
    assert said.json["schema_version"] == 1


def test_json_of_an_error_has_the_same_problems(tmp_path):
    said = lightmill("status", tmp_path / "nothing", "--json")
    assert said.json["exit_code"] == said.status == 3
    (problem,) = said.json["problems"]
    assert (problem["code"], problem["where"]) == ("LM1316", str(tmp_path / "nothing"))
    assert problem["help"]
    assert said.codes == ["LM1316"]


def test_other_peoples_text_cannot_steer_the_terminal(tmp_path):
    prompts = tmp_path / "pro\x1b[2Jmpts.csv"
    prompts.write_text('prompt,seed\n"a\x1b]0;owned\x07\nerror[LM0000]: forged",-1\n')
    said = plan(prompts, "--override", "seed")
    assert said.status == 3
    assert "\x1b" not in said.out + said.err
    assert "\\x1b[2J" in said.err
    assert not any(line.startswith("error[LM0000]") for line in said.err.splitlines())


@pytest.mark.parametrize(("variables", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colours_are_for_terminals_that_want_them(tmp_path, variables, coloured):
    assert ("\x1b[1;31m" in on_a_terminal(["status", str(tmp_path)], variables)) == coloured


def test_no_colours_without_a_terminal(tmp_path):
    assert "\x1b" not in lightmill("status", tmp_path).err


def on_a_terminal(words, variables):
    """What a command writes to a terminal."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", **variables}
    with subprocess.Popen(
        [sys.executable, "-m", "cluster", *words], stdout=theirs, stderr=theirs, stdin=theirs, env=environment
    ):
        os.close(theirs)
        said = b""
        try:
            while piece := os.read(ours, 65536):
                said += piece
        except OSError:  # how Linux says that nobody holds the other end any more
            os.close(ours)
    return said.decode()


def test_status_says_how_far_a_job_is(tmp_path):
    put_status(tmp_path)
    said = lightmill("status", tmp_path)
    assert said.status == 0
    assert said.out.splitlines()[0] == (
        "cats  running: 40/100 images, 2.0 images/s, 30.0 s left, 1 failed, 1 of 2 workers"
    )
    assert "denoise 90%" in said.out
    assert said.err == ""


def test_status_says_that_nobody_writes_any_more(tmp_path):
    put_status(tmp_path, timedelta(minutes=10))
    said = lightmill("status", tmp_path, "--json")
    assert "no heartbeat for 10 min" in said.err
    assert said.json["silent_seconds"] > 590
    assert lightmill("status", tmp_path).status == 0


def test_an_old_status_of_a_finished_job_is_no_silence(tmp_path):
    put_status(tmp_path, timedelta(days=9), state="finished", done=100)
    said = lightmill("status", tmp_path, "--json")
    assert (said.err, said.json["silent_seconds"]) == ("", None)


def test_status_says_why_a_job_failed(tmp_path):
    put_status(tmp_path, state="failed", message="no room to write")
    assert "because   no room to write" in lightmill("status", tmp_path).out


def test_watch_goes_on_until_the_run_is_over(tmp_path, monkeypatch):
    put_status(tmp_path, timedelta(minutes=10))
    naps = []

    def nap(seconds):
        naps.append(seconds)
        if len(naps) == 3:
            put_status(tmp_path, state="finished", done=100)

    monkeypatch.setattr(inspection.time, "sleep", nap)
    said = lightmill("status", tmp_path, "--watch")
    assert len(naps) == 3
    assert said.out.startswith("cats  finished: 100/100 images")
    assert said.err.count("no heartbeat") == 1


@pytest.mark.parametrize("purpose", ["run", "retry", "clean"])
def test_the_last_word_of_an_earlier_run_ends_no_watch_once_the_next_has_begun(tmp_path, monkeypatch, purpose):
    put_status(tmp_path, state="stopped", driver="earlier")
    naps = []

    def nap(seconds):
        naps.append(seconds)
        put_status(tmp_path, state="finished", done=100, driver=lease.token)

    monkeypatch.setattr(inspection.time, "sleep", nap)
    with Lease(open_bucket(str(tmp_path)), "strong", purpose) as lease:
        shown = lightmill("status", tmp_path).out.split()[1]
        quiet = lightmill("status", tmp_path, "--json").json["silent_seconds"] is None
        said = lightmill("status", tmp_path, "--watch")
    assert quiet
    if purpose == "clean":  # which makes nothing
        assert (shown, naps) == ("stopped:", [])
    else:
        assert (shown, len(naps)) == ("starting:", 1)
        assert said.out.startswith("cats  finished: 100/100 images")


def test_the_last_word_of_a_driver_that_still_holds_the_lease_is_its_last(tmp_path):
    with Lease(open_bucket(str(tmp_path)), "strong", "run") as lease:
        put_status(tmp_path, state="finished", done=100, driver=lease.token)
        assert lightmill("status", tmp_path, "--watch").out.startswith("cats  finished")


def test_verify_of_a_sound_output(done):
    said = lightmill("verify", done.output)
    assert (said.status, said.err) == (0, "sound\n")
    assert said.out.startswith("10 of 10 rows read back")


def test_a_sample_is_another_each_time_and_can_be_repeated(tmp_path):
    spec = finished(tmp_path, 40, shard_size=1)
    samples = [lightmill("verify", spec.output, "--sample", "0.02", "--json").json for _ in range(8)]
    assert len({found["seed"] for found in samples}) > 1
    assert len({sample_of(spec, found["seed"]) for found in samples}) > 1

    seed = samples[0]["seed"]
    said = lightmill("verify", spec.output, "--sample", "0.02", "--seed", seed)
    assert said.out.endswith(f"a sample of the shards (--sample 0.02 --seed {seed})\n")
    assert lightmill("verify", spec.output, "--sample", "0.02", "--seed", seed, "--json").json == samples[0]
    assert lightmill("verify", spec.output, "--json").json["seed"] is None


def sample_of(spec, seed):
    """The tar that a sample of one shard reads."""
    bucket = Reads(open_bucket(spec.output))
    list(verify(bucket, Manifest.load(bucket), 0.02, seed))
    (tar,) = bucket.streamed
    return tar


class Reads:
    """A bucket that notes which files are read back."""

    def __init__(self, bucket):
        self._bucket = bucket
        self.streamed = []

    def __getattr__(self, name):
        return getattr(self._bucket, name)

    def stream(self, key):
        self.streamed.append(key)
        return self._bucket.stream(key)


def test_verify_names_a_fault_and_is_exit_status_1(tmp_path):
    spec = finished(tmp_path)
    tar = next(Path(spec.output, "images").glob("*.tar"))
    data = bytearray(tar.read_bytes())
    data[600] ^= 1
    tar.write_bytes(data)
    said = lightmill("verify", spec.output, "--json")
    assert said.status == 1
    assert set(said.codes) <= {"LM1805", "LM1806"}
    assert f"images/{tar.name}" in said.err
    assert (said.json["sound"], said.json["faults"][0]["where"]) == (False, f"images/{tar.name}")


def test_clean_says_first_and_removes_then(tmp_path):
    spec = finished(tmp_path)
    orphan = Path(spec.output, "images", "000000000-0123456789ab.tar")
    orphan.write_bytes(b"x" * 1000)
    young = orphan.with_name("000000001-0123456789ab.tar")
    young.write_bytes(b"y")
    long_ago = (datetime.now() - timedelta(days=2)).timestamp()
    os.utime(orphan, (long_ago, long_ago))
    said = lightmill("clean", spec.output, "--dry-run")
    assert (said.status, orphan.exists()) == (0, True)
    assert f"images/{orphan.name}" in said.out
    assert "1 file, 1.0 kB to be removed" in said.err
    said = lightmill("clean", spec.output, "--json")
    assert [leftover["key"] for leftover in said.json["leftovers"]] == [f"images/{orphan.name}"]
    assert said.json["removed"]
    assert (orphan.exists(), young.exists()) == (False, True)
    assert lightmill("verify", spec.output).status == 0


def test_retry_of_a_job_without_failures_says_so_and_starts_nothing(done):
    said = lightmill("retry", done.output)
    assert said.status == 0
    assert "nothing to retry" in said.err
