"""Manifests: core objects against Kubernetes' own schemas, KubeRay's against typed models, and what pods may do."""

import json
import re
import shlex

import kubernetes_validate
import pytest
import yaml
from pydantic import ValidationError

from cluster.jobfile import load_job
from cluster.kubernetes import kuberay
from cluster.kubernetes.kuberay import RayCronJob, RayJob
from cluster.schedule.schedule import read_marks
from commands import lightmill

WORDS = ("--name", "nightly", "--cron", "0 2 * * mon-fri", "--timezone", "Europe/Berlin")
KUBERNETES = "1.31"
SPEC = {
    "prompts": "s3://in/captions.parquet",
    "output": "s3://datasets/cats/{date}",
    "models": [{"model": "fake", "gpus_per_worker": 0.5, "workers": {"max": 8}}],
}


@pytest.fixture
def job(tmp_path):
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(SPEC))
    return path


def rendered(job, to, *flags):
    said = lightmill("schedule", "render", job, *WORDS, "--to", to, "--image", "registry.example/lightmill:1", *flags)
    assert said.status == 0, said.err
    return said.out, list(yaml.safe_load_all(said.out))


def templates(document):
    """Every pod template in it."""
    if isinstance(document, dict):
        if "containers" in document.get("spec", {}):
            yield document
        for value in document.values():
            yield from templates(value)
    elif isinstance(document, list):
        for value in document:
            yield from templates(value)


@pytest.mark.parametrize("to", ["cronjob", "rayjob", "raycronjob"])
def test_kubernetes_takes_it(job, to):
    text, (config, runs) = rendered(job, to)
    kubernetes_validate.validate(config, KUBERNETES, strict=True)
    if to == "cronjob":
        kubernetes_validate.validate(runs, KUBERNETES, strict=True)
    for template in templates(runs):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": template["spec"]}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)
    assert yaml.safe_load(config["data"]["job.yaml"]) == SPEC
    assert read_marks(text)[0].name == "nightly"


def test_the_schemas_are_really_asked(job):
    _, (_, runs) = rendered(job, "cronjob")
    runs["spec"]["concurencyPolicy"] = "Forbid"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(runs, KUBERNETES, strict=True)


def test_a_cronjob(job):
    _, (_, runs) = rendered(job, "cronjob", "--namespace", "images", "--secret", "store")
    spec = runs["spec"]
    assert (spec["schedule"], spec["timeZone"]) == ("0 2 * * 1,2,3,4,5", "Europe/Berlin")
    assert (spec["concurrencyPolicy"], runs["metadata"]["namespace"]) == ("Forbid", "images")
    (container,) = next(templates(runs))["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert container["envFrom"] == [{"secretRef": {"name": "store"}}]


def test_a_cronjob_that_submits_needs_no_gpu(job):
    _, (_, runs) = rendered(job, "cronjob", "--address", "http://lightmill-head-svc:8265")
    pod = next(templates(runs))["spec"]
    assert "tolerations" not in pod
    (container,) = pod["containers"]
    assert "nvidia.com/gpu" not in container["resources"]["limits"]
    assert container["args"][-2:] == ["--address", "http://lightmill-head-svc:8265"]


@pytest.mark.parametrize("to", ["rayjob", "raycronjob"])
def test_a_cluster_of_kuberay(job, to):
    text, (_, runs) = rendered(job, to)
    spec = runs["spec"] if to == "rayjob" else runs["spec"]["jobTemplate"]
    assert "spec" not in spec
    assert (runs["apiVersion"], runs["kind"]) == ("ray.io/v1", {"rayjob": "RayJob", "raycronjob": "RayCronJob"}[to])
    assert ("--feature-gates=RayCronJob=true" in text) == (to == "raycronjob")
    cluster = spec["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    (workers,) = cluster["workerGroupSpecs"]
    assert (workers["minReplicas"], workers["maxReplicas"]) == (0, 8)
    assert workers["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert (RayJob if to == "rayjob" else RayCronJob).model_validate({k: v for k, v in runs.items() if k != "metadata"})


@pytest.mark.parametrize("to", ["cronjob", "rayjob", "raycronjob"])
def test_machines_that_are_kept_for_gpu_work_take_it(job, to):
    _, (_, runs) = rendered(job, to)
    tolerated = [template["spec"].get("tolerations") for template in templates(runs)]
    taint = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    assert [found for found in tolerated if found] == [[taint]]  # the head and whoever submits stay away from them


@pytest.mark.parametrize("to", ["cronjob", "rayjob", "raycronjob"])
def test_what_is_called_there_is_a_command(job, to):
    """With the path of the ConfigMap's file, which has to be mounted where the command runs."""
    _, (config, runs) = rendered(job, to)
    spec = runs["spec"] if to == "rayjob" else runs["spec"]["jobTemplate"]
    first = next(templates(runs))["spec"]
    words = first["containers"][0]["args"] if to == "cronjob" else shlex.split(spec["entrypoint"])
    program, group, command, path, *flags = words
    assert (program, group, command, path) == ("lightmill", "schedule", "run", "/etc/lightmill/job.yaml")
    assert flags[flags.index("--cron") + 1] == "0 2 * * mon-fri"
    mounted = {mount["name"]: mount["mountPath"] for mount in first["containers"][0]["volumeMounts"]}
    assert mounted["job"] == "/etc/lightmill"
    assert {"name": "job", "configMap": {"name": config["metadata"]["name"]}} in first["volumes"]
    known = lightmill("schedule", "run", "--help").out
    assert all(flag in known for flag in flags if flag.startswith("--"))


@pytest.mark.parametrize("to", ["cronjob", "raycronjob"])
def test_pods_may_do_no_more_than_they_have_to(job, to):
    _, (_, runs) = rendered(job, to)
    found = list(templates(runs))
    assert len(found) == (1 if to == "cronjob" else 2)
    for template in found:
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            allowed = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
            assert container["securityContext"] == allowed
    assert found[-1]["spec"]["automountServiceAccountToken"] is False  # of the head, the autoscaler needs it


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"prompts": "captions.csv"}, "LM1705"),
        ({"output": "out/{date}"}, "LM1705"),
        ({"models": [{"model": "fake"}]}, "LM1705"),
        ({"models": [{"model": "sdxl", "workers": {"max": 8}}]}, "LM1705"),
    ],
)
def test_what_cannot_run_there_is_refused(tmp_path, changes, code):
    path = tmp_path / "job.yaml"
    path.write_text(json.dumps({**SPEC, **changes}))
    said = lightmill("schedule", "render", path, *WORDS, "--to", "rayjob", "--image", "x:1")
    assert (said.status, said.codes) == (3, [code])


def test_without_an_image_there_is_no_manifest(job):
    said = lightmill("schedule", "render", job, *WORDS, "--to", "cronjob")
    assert (said.status, said.codes) == (2, ["LM1103"])


@pytest.mark.parametrize(("to", "most"), [("rayjob", 37), ("raycronjob", 26), ("cronjob", 40)])
def test_a_name_has_room_for_what_kuberay_adds(job, to, most):
    words = ("schedule", "render", job, "--cron", "0 2 * * *", "--to", to, "--image", "x:1")
    assert lightmill(*words, "--name", "n" * most).status == 0
    assert lightmill(*words, "--name", "n" * (most + 1)).codes == ["LM1707"]


SUBMIT = ("submit", "--render", "--image", "registry.example/lightmill:1")


def submitted(tmp_path, *flags, **changes):
    """The words of `submit --render` for a job, and its two documents."""
    path = tmp_path / "job.yaml"
    path.write_text(json.dumps({**SPEC, "output": "s3://datasets/cats", "name": "Cats_v1." + 40 * "x", **changes}))
    said = lightmill(*SUBMIT, path, *flags)
    assert said.status == 0, said.err
    return list(yaml.safe_load_all(said.out))


@pytest.mark.parametrize("to", ["cron", "systemd", "cronjob"])
def test_an_address_with_a_password_is_written_nowhere(to, job):
    address = "https://me:hidden@ray.example"
    said = lightmill("schedule", "render", job, *WORDS, "--to", to, "--image", "x:1", "--address", address)
    assert (said.status, said.codes, said.out) == (2, ["LM1507"], "")
    assert "hidden" not in said.err


def test_one_run_is_rendered_as_the_job_would_be_submitted(tmp_path, monkeypatch):
    """With what file, environment and flags say, and the store that this machine knows."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://store.example")
    monkeypatch.setenv("LIGHTMILL_SHARD_SIZE", "50")
    flags = ("--seed", "3", "--frozen", "--check", "none", "--secret", "store", "--namespace", "images")
    config, runs = submitted(tmp_path, *flags)
    kubernetes_validate.validate(config, KUBERNETES, strict=True)
    for template in templates(runs):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": template["spec"]}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)
    assert RayJob.model_validate({k: v for k, v in runs.items() if k != "metadata"})
    assert runs["metadata"]["namespace"] == config["metadata"]["namespace"] == "images"
    assert len(runs["metadata"]["name"]) <= 47
    assert re.fullmatch(r"lightmill-cats-v1-x+-[0-9a-f]{8}", runs["metadata"]["name"])
    words = shlex.split(runs["spec"]["entrypoint"])
    assert words[:3] == ["lightmill", "run", "/etc/lightmill/job.yaml"]
    assert words[3:] == ["--address", "auto", "--check", "none", "--frozen"]
    there = tmp_path / "there.yaml"
    there.write_text(config["data"]["job.yaml"])
    monkeypatch.undo()
    found = load_job(there, {})
    assert (found.seed, found.shard_size, found.storage.endpoint_url) == (3, 50, "https://store.example")
    assert (found.prompts, found.output) == (SPEC["prompts"], "s3://datasets/cats")


def test_the_same_job_is_the_same_object_and_another_place_is_another(tmp_path):
    first, again = submitted(tmp_path), submitted(tmp_path)
    (_, other) = submitted(tmp_path, "--output", "s3://datasets/dogs")
    assert first == again
    assert first[1]["metadata"]["name"] != other["metadata"]["name"]


@pytest.mark.parametrize(
    ("changes", "flags", "status", "code"),
    [
        ({"prompts": "captions.csv"}, (), 3, "LM1705"),
        ({"output": "out"}, (), 3, "LM1705"),
        ({"prompt_filter": {"block_list": "words.txt"}}, (), 3, "LM1705"),
        ({"models": [{"model": "mine.yaml", "workers": {"max": 1}}]}, (), 3, "LM1705"),
        ({"models": [{"model": "fake"}]}, (), 3, "LM1705"),
        ({"models": [{"model": "sdxl", "workers": {"max": 8}}]}, (), 3, "LM1705"),
        ({}, ("--wait",), 2, "LM1103"),
        ({}, ("--address", "http://127.0.0.1:8265"), 2, "LM1103"),
    ],
)
def test_one_run_that_cannot_be_rendered(tmp_path, changes, flags, status, code):
    path = tmp_path / "job.yaml"
    path.write_text(json.dumps({**SPEC, "output": "s3://datasets/cats", **changes}))
    said = lightmill(*SUBMIT, path, *flags)
    assert (said.status, said.codes) == (status, [code])


def test_a_card_of_a_stage_is_named_as_the_job_names_it(tmp_path):
    path = tmp_path / "job.yaml"
    spec = {name: value for name, value in SPEC.items() if name != "models"}
    stages = [{"model": "fake"}, {"model": "mine.yaml", "strength": 0.5}]
    path.write_text(json.dumps({**spec, "output": "s3://datasets/cats", "stages": stages}))
    assert "stages[1].model is on this machine" in lightmill(*SUBMIT, path).err


def test_an_unknown_field_of_kuberay_is_a_mistake():
    for model in (kuberay.RayJobSpec, kuberay.RayCluster, kuberay.Workers, kuberay.Head, kuberay.RayCronJobSpec):
        with pytest.raises(ValidationError, match="Extra inputs"):
            model.model_validate({"concurrencyPolicy": "Forbid"})


def test_a_manifest_is_kept_listed_and_removed(job, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    said = lightmill("schedule", "add", job, *WORDS, "--to", "raycronjob", "--image", "x:1")
    assert said.status == 0
    assert "kubectl apply -f" in said.err
    listed = lightmill("schedule", "list", "--json").json["schedules"]
    assert [(one["name"], one["kept_by"]) for one in listed] == [("nightly", "manifest")]
    gone = lightmill("schedule", "remove", "nightly")
    assert "kubectl delete cronjob,raycronjob,configmap -l lightmill=nightly" in gone.err
    assert lightmill("schedule", "list", "--json").json["schedules"] == []
