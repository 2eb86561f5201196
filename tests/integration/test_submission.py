"""Jobs sent to a cluster through its Jobs API, by a laptop that then looks away."""

import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from actors.storage.opening import open_bucket
from checker import check
from mill import START_S, Job, make_job
from processes import Child, lightmill, wait_until
from servers.moto import MotoServer
from servers.raycluster import RayCluster, ray_cluster

pytestmark = pytest.mark.xdist_group("submission")
CATS = [f"a cat, number {number}" for number in range(60)]
CANARY = "canary-3f1c9b2e77"
KEYS = {"AWS_SECRET_ACCESS_KEY": f"{CANARY}-aws", "HF_TOKEN": f"{CANARY}-hub"}
AT_ONCE = 20
ALONE = {"min": 1, "max": 1}
"""One worker: each takes 3 processor seconds to start."""
RUN_S = 240

SUBMIT_AT_ONCE = """
import sys, threading
from pathlib import Path
from actors.errors import LightmillError
from cluster.address import choose_address
from cluster.head import Head
from cluster.jobfile import load_job
from cluster.submission import submit
from jobs.order import RunOrder

order = RunOrder(spec=load_job(Path(sys.argv[1]), {}))
heads = [Head(choose_address(sys.argv[2], print)) for _ in range(int(sys.argv[3]))]
start = threading.Barrier(len(heads))

def once(head):
    start.wait()
    try:
        said = submit(order, head, lambda text: None).id
    except LightmillError as error:
        said = f"{error.code} {error.problems[0].message}"
    sys.stdout.write(said + "\\n")

threads = [threading.Thread(target=once, args=[head]) for head in heads]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


@dataclass(frozen=True)
class Laptop:
    """What somebody with nothing but the command line has: a token, keys of the store, an address."""

    cluster: RayCluster
    moto: MotoServer
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return {**kept, **self.cluster.environment, **self.moto.environment(self.moto.endpoint), **KEYS}

    def run(self, *words: str | Path, **env: str) -> Child:
        """The command line on this laptop, with nothing of the tests in its environment."""
        variables = [f"{name}={value}" for name, value in {**self.environment, **env}.items()]
        return Child(["env", "-i", *variables, *lightmill(*words)], self.folder)

    def say(self, *words: str | Path, status: int = 0, **env: str) -> Child:
        """A command to its end."""
        with self.run(*words, **env) as child:
            assert child.wait(RUN_S) == status, f"{child}\n{child.stdout}"
        return child

    def job(self, rows: list = CATS, *, place: str = "cats", **fields: object) -> Job:
        """A job on this laptop whose output is a place on the store. The table is a file here."""
        return make_job(self.folder / "job", rows, output=f"s3://{self.moto.create_bucket()}/{place}", **fields)

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.cluster.environment['RAY_AUTH_TOKEN']}"}

    @property
    def here(self) -> tuple[str, str]:
        return "--address", self.cluster.jobs_url


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, moto_server: MotoServer) -> Iterator[RayCluster]:
    """Its nodes have keys and a hub token of their own, and on their path no Python that has Ray."""
    env = {**moto_server.environment(moto_server.endpoint), **KEYS, "PATH": "/usr/bin:/bin"}
    with ray_cluster(tmp_path_factory.mktemp("ray"), jobs=True, env=env) as cluster:
        yield cluster


@pytest.fixture
def laptop(cluster, moto_server, tmp_path, monkeypatch) -> Laptop:
    for name, value in moto_server.environment(moto_server.endpoint).items():
        monkeypatch.setenv(name, value)  # for the tests' own look at the store
    return Laptop(cluster, moto_server, tmp_path)


def test_a_job_is_left_to_the_cluster_followed_stopped_and_resumed(laptop):
    job = laptop.job(model="fake:pace=1", shard_size=4, batch_size=1)
    sent = laptop.say("submit", job.file, *laptop.here)
    (first,) = sent.stdout.split()
    assert first.startswith("lightmill-job-")
    again = laptop.say("submit", job.file, *laptop.here, status=1)
    assert "LM1504" in again.stderr
    assert first in again.stderr
    with laptop.run("attach", job.output) as attached:
        wait_until(lambda: len(job.painted()) > 4, START_S, "images")
        attached.wait_for_line("images/s", START_S)
        attached.wait_for_line("is ready: fake", START_S)  # from the driver's log in the store
        attached.interrupt()
        assert attached.wait(START_S) == 130
        assert f"lightmill attach {job.output}" in attached.stderr
    with laptop.run("logs", job.output, "--follow", "--json") as told:
        stopped = laptop.say("stop", job.output)
        assert told.wait(START_S) == 0, told
    assert "stopped: " in stopped.stderr
    assert any("as `lightmill stop`" in json.loads(line)["message"] for line in told.stdout.splitlines())
    painted = len(job.painted())
    assert 4 < painted < 60
    status = json.loads(laptop.say("status", first, *laptop.here, "--json").stdout)
    assert (status["state"], status["exit_code"], status["submission"]) == ("stopped", 143, first)
    resumed = laptop.say("submit", job.file, *laptop.here, "--wait", "--json")
    outcome = json.loads(resumed.stdout)
    assert outcome["job"] == f"{first[:-1]}2"
    assert outcome["totals"]["ok"] == 60
    assert outcome["made"] == 60 - status["committed"]
    listed = json.loads(laptop.say("list", job.output, *laptop.here, "--json").stdout)["jobs"]
    assert [(one["id"], one["state"]) for one in listed] == [(first, "stopped"), (f"{first[:-1]}2", "finished")]
    said = laptop.say("logs", job.output).stdout
    assert re.search(r"  worker-\S+  INFO  ", said)
    check(job.as_uploaded())


def test_twenty_at_once_are_one_run_which_ray_stops_as_orderly_as_we(laptop):
    job = laptop.job(model="fake:pace=0.5", workers=ALONE)
    variables = [f"{name}={value}" for name, value in laptop.environment.items()]
    script = [sys.executable, "-c", SUBMIT_AT_ONCE, job.file, laptop.cluster.jobs_url, str(AT_ONCE)]
    with Child(["env", "-i", *variables, *script], laptop.folder) as child:
        assert child.wait(RUN_S) == 0, child
        said = child.stdout.splitlines()
    (sent,) = [line for line in said if line.startswith("lightmill-")]
    refused = [line for line in said if line.startswith("LM1504 the job is submitted already: ")]
    assert len(refused) == AT_ONCE - 1, said
    assert all(sent in line for line in refused)
    listed = json.loads(laptop.say("list", job.output, *laptop.here, "--json").stdout)["jobs"]
    assert [one["id"] for one in listed] == [sent]
    wait_until(job.painted, START_S, "an image")
    requests.post(f"{laptop.cluster.jobs_url}/api/jobs/{sent}/stop", headers=laptop.bearer, timeout=60)
    stopped = laptop.say("attach", sent, *laptop.here, status=143)
    assert "stopped; `lightmill submit` with the same job makes what is missing" in stopped.stderr
    assert job.made_again() == 0


def test_a_slot_of_a_schedule_is_submitted_once_and_followed(laptop):
    """Also by a second call, where the first one's machine went down while the cluster was at work."""
    job = laptop.job(CATS[:20], place="cats/{slot}", model="fake:pace=0.5", workers=ALONE)
    slot = ("--name", "nightly", "--cron", "0 2 * * *", "--slot", "2026-11-27T02:00")
    words = ("schedule", "run", job.file, *slot, *laptop.here, "--json")
    with laptop.run(*words) as first:
        sent = first.wait_for_line("submitted as ", START_S).rpartition(" ")[2]
        wait_until(job.painted, START_S, "an image")
        first.kill()
    again = laptop.say(*words)
    assert f"submitted already, as {sent}" in again.stderr
    (outcome,) = json.loads(again.stdout)["slots"]
    assert (outcome["slot"], outcome["exit_code"]) == ("20261127T0200Z", 0)
    assert json.loads(laptop.say(*words).stdout)["slots"] == []
    made = job.of_slot(outcome["slot"])
    listed = json.loads(laptop.say("list", made.output, *laptop.here, "--json").stdout)["jobs"]
    assert [(one["id"], one["state"]) for one in listed] == [(sent, "finished")]
    check(made.as_uploaded())


def test_it_ends_as_the_run_does(laptop):
    """Rows that cannot be used, which only the cluster could see, and before anything is promised; a driver that is
    killed, so that nobody has a last word."""
    job = laptop.job(model="fake:pace=0.5", workers=ALONE)
    bucket = open_bucket(job.output)
    bucket.put("in/bad.jsonl", b'{"caption": "x"}\n')
    elsewhere = ("--prompts", f"{job.output}/in/bad.jsonl", "--output", f"{job.output}-bad")
    refused = laptop.say("submit", job.file, *elsewhere, *laptop.here, "--wait", status=3)
    assert "LM1001" in refused.stderr
    with laptop.run("submit", job.file, *laptop.here, "--wait") as waiting:
        wait_until(job.painted, START_S, "an image")
        (driver,) = laptop.cluster.child.descendants(r"-m jobs @order\.json")
        driver.kill()
        assert waiting.wait(RUN_S) == 1, waiting
    assert "LM1614" in waiting.stderr


def test_only_who_has_the_token_is_heard(laptop):
    job = laptop.job()
    for env, said in (
        ({"RAY_AUTH_TOKEN": "guessed"}, "refuses the token"),
        ({"RAY_AUTH_MODE": "disabled"}, "takes none without a token"),
    ):
        child = laptop.say("submit", job.file, *laptop.here, status=6, **env)
        assert "LM1501" in child.stderr
        assert said in child.stderr
        assert "RAY_AUTH_MODE=token" in child.stderr
        assert "guessed" not in child.stderr
    file = laptop.folder / "token"
    file.write_text(laptop.cluster.environment["RAY_AUTH_TOKEN"])
    laptop.say("list", *laptop.here, RAY_AUTH_TOKEN="", RAY_AUTH_TOKEN_PATH=str(file))
    nobody = laptop.say("list", "--address", "http://127.0.0.1:9", status=6)
    assert "no Ray cluster answers at http://127.0.0.1:9" in nobody.stderr
    unknown = laptop.say("attach", "lightmill-cats-0123abcd-1", *laptop.here, status=3)
    assert "LM1509" in unknown.stderr


def test_a_preflight_looks_at_every_machine(laptop):
    """Nothing here. It leaves nothing on the store, and no job on the cluster."""
    job = laptop.job()
    found = laptop.say("submit", job.file, *laptop.here, "--preflight")
    rows = {(verdict, check) for verdict, check in (line.split()[:2] for line in found.stdout.splitlines())}
    assert rows == {("ok", check) for check in ("python", "ray", "disk", "store", "clock")}
    assert "the cluster can do this job" in found.stderr
    assert [info.key for info in open_bucket(job.output).list()] == []
    assert json.loads(laptop.say("list", *laptop.here, job.output, "--json").stdout)["jobs"] == []


def test_no_secret_is_anywhere(laptop):
    """Of the laptop and of the nodes: not in Ray's logs, not in what the Jobs API says, not in the store."""
    job = laptop.job(["boom", *CATS[:7]], model="fake:fail=boom", limits={"max_failed_share": 0.1}, workers=ALONE)
    child = laptop.say("submit", job.file, *laptop.here, "--wait", "--env", "TZ=UTC", "--debug", status=4)
    assert "LM1611" in child.stderr
    refused = laptop.say("submit", job.file, *laptop.here, "--env", f"MY_TOKEN={CANARY}", status=2)
    canaries = [CANARY.encode(), laptop.cluster.environment["RAY_AUTH_TOKEN"].encode()]
    told = [child.stdout, child.stderr, refused.stderr, laptop.say("logs", job.output).stdout, _all_jobs(laptop)]
    files = [path for path in laptop.cluster.session.rglob("*") if path.is_file()]
    objects = [info.key for info in open_bucket(job.output).list()]
    bucket = open_bucket(job.output)
    assert "TZ" in told[-1]  # what does travel is seen there: the search would find it
    assert any("supervisor-" in path.name for path in files)
    assert {"manifest.json", "status.json", "submission.json"} <= set(objects)
    for canary in canaries:
        assert [text for text in told if canary.decode() in text] == []
        assert [path for path in files if canary in path.read_bytes()] == []
        assert [key for key in objects if canary in bucket.get(key)] == []


def _all_jobs(laptop: Laptop) -> str:
    """The Jobs API's own words about every job, and every job's log, as any client with the token gets them."""
    jobs = requests.get(f"{laptop.cluster.jobs_url}/api/jobs/", headers=laptop.bearer, timeout=60).text
    ids = [job["submission_id"] for job in json.loads(jobs)]
    urls = [f"{laptop.cluster.jobs_url}/api/jobs/{one}/logs" for one in ids if one]
    return jobs + "".join(requests.get(url, headers=laptop.bearer, timeout=60).text for url in urls)
