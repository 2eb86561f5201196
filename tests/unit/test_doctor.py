"""`lightmill doctor`: this machine and a store, each problem with its remedy, and nothing left behind."""

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from actors import machine as this_machine
from actors.errors import ClusterError, Problem, StorageError
from actors.storage import rights
from actors.storage.opening import open_bucket
from actors.storage.rights import try_checksums
from cluster.doctor import machine, machines, store
from commands import lightmill
from jobs.machines import Cluster, Machine
from weak_bucket import WeakBucket


def facts(said, part):
    (found,) = [one for one in said.json["parts"] if one["part"] == part]
    return {fact["name"]: fact["value"] for fact in found["facts"]}


def codes(findings):
    return [finding.code for finding in findings if isinstance(finding, Problem)]


def test_this_machine():
    said = lightmill("doctor", "--json")
    found = facts(said, "this machine")
    assert said.status == said.json["exit_code"] == 0
    assert {"python", "lightmill", "ray", "torch", "diffusers", "boto3", "GPU", "memory"} <= found.keys()
    assert found["memory"].endswith("B free")


def test_a_library_that_is_too_old_is_a_fault(monkeypatch):
    version = this_machine.version
    monkeypatch.setattr(this_machine, "version", lambda name: "2.0.0" if name == "ray" else version(name))
    said = lightmill("doctor")
    assert (said.status, said.codes[0]) == (1, "LM1842")
    assert "help: pip install 'ray>=2.54'" in said.err


def test_a_laptop_is_told_that_it_makes_no_images(monkeypatch):
    version = this_machine.version
    gone = ("torch", "diffusers")
    monkeypatch.setattr(this_machine, "version", lambda name: None if name in gone else version(name))
    said = lightmill("doctor")
    assert (said.status, said.codes[0]) == (0, "LM1841")
    assert "diffusers, torch" in said.err


def test_gpus_are_listed_and_a_torch_without_cuda_is_a_fault(monkeypatch, tmp_path):
    script = tmp_path / "nvidia-smi"
    script.write_text("#!/bin/sh\necho 'NVIDIA L4, 23034, 22565, 570.86.15'\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    version = this_machine.version
    monkeypatch.setattr(this_machine, "version", lambda name: "2.13.0+cpu" if name == "torch" else version(name))
    findings = list(machine._gpus())
    assert findings[0].value == "NVIDIA L4, 23.7 GB of 24.2 GB free, driver 570.86.15"
    assert codes(findings) == ["LM1843"]


@pytest.mark.parametrize(("free", "expected"), [(1e9, ["LM1845"] * 2 + ["LM1846"]), (1e12, [])])
def test_a_full_disk_is_said(monkeypatch, free, expected):
    monkeypatch.setattr(
        this_machine.shutil, "disk_usage", lambda path: SimpleNamespace(free=free if free > 1e9 else 1e7)
    )
    found = [code for code in codes(machine.examine()) if code in ("LM1845", "LM1846")]
    assert found == expected


def test_a_folder(tmp_path):
    said = lightmill("doctor", tmp_path / "out", "--json")
    found = facts(said, str(tmp_path / "out"))
    assert said.status == 0
    assert found.pop("clock").endswith("the store's")
    assert found.pop("conditional writes").startswith("strong")
    assert found == dict.fromkeys(
        ["write", "read", "list", "write in parts", "list unfinished uploads", "delete"], "yes"
    )
    assert list(open_bucket(str(tmp_path / "out")).list()) == []


def test_an_s3_store(moto_store):
    said = lightmill("doctor", moto_store.url, "--json")
    found = facts(said, moto_store.url)
    assert (said.status, found["write in parts"], found["delete"]) == (0, "yes", "yes")
    assert found["checksums"] == store.CHECKSUMS["ignored"]  # moto's, of what is not the body's own
    with moto_store.client() as s3:
        assert "Contents" not in s3.list_objects_v2(Bucket=moto_store.bucket, Prefix=moto_store.prefix)
        assert "Uploads" not in s3.list_multipart_uploads(Bucket=moto_store.bucket, Prefix=moto_store.prefix)


def test_a_bucket_that_is_not_there_is_status_5(moto_store):
    said = lightmill("doctor", "s3://there-is-no-such-bucket/x")
    assert (said.status, said.codes[-1]) == (5, "LM1301")
    assert "write                   no" in said.out


def test_a_read_only_folder(tmp_path):
    (tmp_path / "file").write_text("")
    said = lightmill("doctor", tmp_path / "file" / "out")
    assert said.status == 5


class Refusing:
    """A bucket that may not do one thing."""

    def __init__(self, bucket, method):
        self._bucket, self._method = bucket, method

    def __getattr__(self, name):
        if name != self._method:
            return getattr(self._bucket, name)

        def refuse(*words, **options):
            raise StorageError(Problem("LM1302", f"{name} denied"))

        return refuse


@pytest.mark.parametrize(
    ("method", "right"),
    [
        ("put", "write"),
        ("get", "read"),
        ("list", "list"),
        ("upload", "write in parts"),
        ("pending_uploads", "list unfinished uploads"),
        ("delete", "delete"),
    ],
)
def test_a_right_that_lacks_is_named(tmp_path, method, right):
    trials = list(rights.try_rights(Refusing(open_bucket(str(tmp_path)), method)))
    assert [trial.right for trial in trials if trial.refusal] == [right]
    assert len(trials) == (1 if method == "put" else 6)


def test_a_store_that_ignores_conditions_is_noted(tmp_path, monkeypatch):
    weak = WeakBucket(open_bucket(str(tmp_path / "out")))
    monkeypatch.setattr(store, "open_bucket", lambda *words, **options: weak)
    findings = list(store.examine("out", None))
    assert codes(findings) == ["LM1850"]


def test_clocks_that_differ():
    assert codes(store._clock(datetime.now(UTC) - timedelta(minutes=5))) == ["LM1847"]
    assert codes(store._clock(datetime.now(UTC) - timedelta(seconds=5))) == []


def test_a_folder_knows_of_no_checksums(tmp_path):
    assert try_checksums(open_bucket(str(tmp_path))) is None


def test_a_cluster(monkeypatch):
    seen = Cluster("2.60.0", "3.9.1", (Machine("10.0.0.1", True, 8, 0), Machine("10.0.0.2", False, 8, 1)))
    monkeypatch.setattr("jobs.machines.look", lambda address: seen)
    assert codes(machines.examine("10.0.0.1:6379")) == ["LM1848", "LM1849"]


def test_a_cluster_that_does_not_answer_is_status_6(monkeypatch):
    def away(address):
        raise ClusterError(Problem("LM1501", "no Ray cluster answers"))

    monkeypatch.setattr("jobs.machines.look", away)
    said = lightmill("doctor", "--address", "10.0.0.1:6379", "--json")
    assert (said.status, said.codes) == (6, ["LM1501"])


@pytest.mark.parametrize(
    "words",
    [["cluster"], ["a", "b"], ["cluster", "a", "b"], ["cluster", "x", "--address", "y"], ["--address", "http://y:1"]],
)
def test_words_that_mean_nothing(words):
    said = lightmill("doctor", *words)
    assert (said.status, said.codes) == (2, ["LM1103"])
    assert json.loads(lightmill("doctor", *words, "--json").out)["exit_code"] == 2
