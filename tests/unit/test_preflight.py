"""What a preflight asks of a machine, and what is made of its answers."""

import json
from dataclasses import asdict

import pytest

from actors import checkup
from actors.checkup import Checkup, check_up
from actors.errors import Problem
from actors.machine import Gpu, gpus
from actors.settings import StorageSettings
from actors.storage.opening import open_bucket
from builders import make_spec
from jobs.judgement import judge

HERE = {"python": "3.11.2", "ray": "2.60.0"}
GIB = 1 << 30
VERSIONS = {"ray": "2.60.0", "torch": "2.10.1", "diffusers": "0.39.0", "transformers": "5.1.0"}


def gpu_of(name, size):
    return Gpu(name, size, size, "570.86")


def machine(address="10.0.0.2", gpu=1.0, error="", **changes):
    """As the driver's last word has it, in JSON."""
    found = Checkup("host", "3.11.9", VERSIONS, (gpu_of("NVIDIA L4", 22 * GIB),), 80 * GIB, 0.4, ())
    told = {**asdict(found), **changes}
    whole = {"address": address, "CPU": 8.0, "GPU": gpu, "checkup": None if error else told, "error": error}
    return json.loads(json.dumps(whole, default=asdict))


def spec_of(tmp_path, model="stable-diffusion-xl", **changes):
    return make_spec(tmp_path, model=model, **changes)


def verdicts(judged):
    return {(one.check, one.verdict) for one in judged if one.verdict != "ok"}


def test_a_good_cluster_is_all_ok(tmp_path):
    judged = list(judge(spec_of(tmp_path), [machine()], HERE))
    assert {one.check for one in judged} == {
        *("python", "ray", "torch", "diffusers", "transformers"),
        *("gpus", "memory", "disk", "store", "clock"),
    }
    assert verdicts(judged) == set()
    assert [one.problem for one in judged if one.problem] == []


@pytest.mark.parametrize(
    ("changes", "check", "verdict", "code"),
    [
        ({"python": "3.10.1"}, "python", "error", "LM1502"),
        ({"python": "3.12.1"}, "python", "warning", "LM1502"),
        ({"versions": {**VERSIONS, "ray": "2.53.0"}}, "ray", "error", "LM1502"),
        ({"versions": {**VERSIONS, "ray": "2.59.0"}}, "ray", "warning", "LM1502"),
        ({"versions": {**VERSIONS, "diffusers": "0.37.1"}}, "diffusers", "error", "LM1502"),
        ({"versions": {"ray": "2.60.0", "torch": "2.10", "diffusers": "1.0"}}, "transformers", "error", "LM1502"),
        ({"gpus": [gpu_of("NVIDIA T4", 4 * GIB)]}, "memory", "error", "LM1503"),
        ({"gpus": [gpu_of("NVIDIA T4", 6 * GIB)]}, "memory", "warning", "LM1503"),
        ({"disk_free": GIB}, "disk", "error", "LM1503"),
        ({"clock_ahead": -90.0}, "clock", "warning", "LM1304"),
        ({"clock_ahead": 3600.0}, "clock", "error", "LM1304"),
        ({"problems": [asdict(Problem("LM1302", "denied"))], "clock_ahead": None}, "store", "error", "LM1302"),
    ],
)
def test_what_is_amiss_is_one_line_with_its_remedy(changes, check, verdict, code, tmp_path):
    judged = list(judge(spec_of(tmp_path), [machine(**changes)], HERE))
    assert verdicts(judged) == {(check, verdict)}
    (problem,) = [one.problem for one in judged if one.problem]
    assert (problem.code, problem.where) == (code, "10.0.0.2")


def test_machines_that_do_not_answer_and_gpus_that_are_not_up(tmp_path):
    judged = list(judge(spec_of(tmp_path), [machine(gpu=0.0), machine("10.0.0.3", error="it died")], HERE))
    assert verdicts(judged) == {("machine", "error"), ("gpus", "warning")}
    assert {one.machine for one in judged if one.check == "diffusers"} == set()  # no worker would be there
    tiny = list(judge(spec_of(tmp_path, "fake"), [machine(gpu=0.0, versions={"ray": "2.60.0"}, disk_free=0)], HERE))
    assert verdicts(tiny) == set()


def test_different_versions_on_workers_are_said(tmp_path):
    other = {**VERSIONS, "torch": "2.9.0"}
    judged = list(judge(spec_of(tmp_path), [machine(), machine("10.0.0.3", versions=other)], HERE))
    assert verdicts(judged) == {("torch", "warning")}


def test_a_checkup_reads_the_beacon_and_writes(moto_store):
    bucket = open_bucket(moto_store.url)
    bucket.put("leases/probe-beacon-1", b"")
    found = check_up(moto_store.url, StorageSettings(), "leases/probe-beacon-1")
    assert found.problems == ()
    assert abs(found.clock_ahead) < 30
    assert found.disk_free > 0
    assert found.versions["ray"]
    assert len(list(bucket.list(checkup.TRACES))) == 1


def test_a_checkup_of_another_store_says_so(moto_store):
    found = check_up(moto_store.url, StorageSettings(), "leases/probe-beacon-1")
    assert [problem.code for problem in found.problems] == ["LM1511"]
    nobody = check_up("s3://no-such-bucket-here/x", StorageSettings(), "leases/probe-beacon-1")
    assert [problem.code for problem in nobody.problems] == ["LM1301"]


def test_gpus_are_what_the_tool_lists(tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    said = ("NVIDIA H100, 80GB HBM3, 81559, 80000, 570.86", "NVIDIA L4, 23034, 22565, 570.86", "", "no devices")
    tool.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in said))
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    large = Gpu("NVIDIA H100, 80GB HBM3", 81559 << 20, 80000 << 20, "570.86")
    assert gpus() == [large, Gpu("NVIDIA L4", 23034 << 20, 22565 << 20, "570.86")]
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert gpus() == []
