"""Manifests: what Kubernetes is given so that a schedule runs there."""

import math
import shlex
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import yaml

from actors.errors import InputError, Problem
from actors.settings import Settings
from actors.storage.opening import split
from cluster.jobfile import load_job
from cluster.schedule.kuberay import Head, RayCluster, RayCronJob, RayJob, Workers
from cluster.schedule.schedule import Schedule
from jobs.spec import JobSpec

JOB_FOLDER, JOB_FILE = "/etc/lightmill", "job.yaml"
PATIENCE_SECONDS = 600
"""After its time: a controller that was away begins the slot all the same."""
LONGEST_SECONDS = 24 * 3600
GPUS_TO_COME_SECONDS = 1800
"""Until the workers' machines are there."""
KEPT_SECONDS = 600
"""Of a cluster whose job is over: time to look at it."""
SHARED_MEMORY = "1Gi"
USER = 1000
"""Of the image in docker/Dockerfile."""
LABEL = "lightmill"
"""Its value is the name of the schedule."""
CONFIG = "-job"
Object = dict[str, Any]


class _Blocks(yaml.SafeDumper):
    """Text of several lines stays legible, and no part of a document is named and referred to."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ANN401
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", data, style="|" if "\n" in data else None)


_Blocks.add_representer(str, _Blocks.represent_str)


class Place(Settings):
    """What a schedule needs to know of the Kubernetes that it runs on."""

    image: str
    secret: str | None = None
    """Name of a Secret with the store's credentials as variables; None: the pods have a role of their own."""
    namespace: str | None = None


def render(schedule: Schedule, kind: Literal["cronjob", "rayjob", "raycronjob"], place: Place) -> str:
    """Two documents: the job file in a ConfigMap, and what runs it. Raises `InputError` for what cannot run there."""
    spec = load_job(Path(schedule.job), {}, fill=str)
    _refuse_local(spec)
    config = _config_map(schedule, place)
    there = schedule.model_copy(update={"job": f"{JOB_FOLDER}/{JOB_FILE}"})
    if kind == "cronjob":
        document, note = _cron_job(there, place, spec), ""
    else:
        with_ray = there.model_copy(update={"address": "auto"})
        job = _ray_job(with_ray, place, spec)
        made = job if kind == "rayjob" else RayCronJob.of(schedule.timetable.portable, schedule.timezone, job)
        document = {**made.dump(), "metadata": _metadata(schedule.name, place)}
        note = f"# {made.needs}\n"
    text = yaml.dump_all([config, document], Dumper=_Blocks, sort_keys=False, width=1000, allow_unicode=True)
    return (
        f"{schedule.mark}\n# kubectl apply --server-side --dry-run=server -f FILE; then without --dry-run\n{note}{text}"
    )


def _config_map(schedule: Schedule, place: Place) -> Object:
    data = {JOB_FILE: Path(schedule.job).read_text()}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _metadata(schedule.name + CONFIG, place), "data": data}


def _cron_job(schedule: Schedule, place: Place, spec: JobSpec) -> Object:
    """One pod makes the slot, on its own GPU; or submits it, where the schedule has the address of a cluster."""
    gpus = 0 if schedule.address else _gpus(spec)
    template = _pod(place, schedule, "lightmill", {"args": schedule.words("lightmill")}, _resources(gpus))
    template["spec"] |= {"restartPolicy": "Never", "automountServiceAccountToken": False}
    job = {
        "backoffLimit": 1,
        "activeDeadlineSeconds": LONGEST_SECONDS,
        "ttlSecondsAfterFinished": LONGEST_SECONDS,
        "template": template,
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": _metadata(schedule.name, place),
        "spec": {
            "schedule": schedule.timetable.portable,
            "timeZone": schedule.timezone,
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": PATIENCE_SECONDS,
            "successfulJobsHistoryLimit": 3,
            "failedJobsHistoryLimit": 3,
            "jobTemplate": {"spec": job},
        },
    }


def _ray_job(schedule: Schedule, place: Place, spec: JobSpec) -> RayJob:
    """A cluster for the one slot: the driver on its head, which takes no work, and workers from nothing."""
    gpus, most = _gpus(spec), _most_workers(spec)
    head = _pod(
        place, schedule, "ray-head", {}, {"requests": {"cpu": "2", "memory": "8Gi"}, "limits": {"memory": "8Gi"}}
    )
    worker = _pod(place, schedule, "ray-worker", {}, _resources(gpus), with_job=False)
    worker["spec"]["automountServiceAccountToken"] = False
    cluster = RayCluster(
        ray_version=_ray_version(),
        head_group_spec=Head(template=head),
        worker_group_specs=(Workers(group_name="workers", max_replicas=most, template=worker),),
    )
    return RayJob.of(
        shlex.join(schedule.words("lightmill")), cluster, GPUS_TO_COME_SECONDS, LONGEST_SECONDS, KEPT_SECONDS
    )


def _pod(
    place: Place, schedule: Schedule, container: str, more: Object, resources: Object, *, with_job: bool = True
) -> Object:
    """A pod template with one container of the image, that may do no more than it has to."""
    mounts = [{"name": "shared-memory", "mountPath": "/dev/shm"}]  # noqa: S108 - where Ray looks for it
    volumes: list[Object] = [{"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": SHARED_MEMORY}}]
    if with_job:
        mounts.append({"name": "job", "mountPath": JOB_FOLDER, "readOnly": True})  # type: ignore[dict-item]
        volumes.append({"name": "job", "configMap": {"name": f"lightmill-{schedule.name}{CONFIG}"}})
    credentials = [{"secretRef": {"name": place.secret}}] if place.secret else []
    one = {
        "name": container,
        "image": place.image,
        **more,
        **({"envFrom": credentials} if credentials else {}),
        "resources": resources,
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": mounts,
    }
    within = {
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [one],
        "volumes": volumes,
    }
    return {"metadata": {"labels": {LABEL: schedule.name}}, "spec": within}


def _resources(gpus: int) -> Object:
    limits = {"memory": "32Gi", "nvidia.com/gpu": gpus} if gpus else {"memory": "8Gi"}
    return {"requests": {"cpu": "4" if gpus else "2", "memory": limits["memory"]}, "limits": limits}


def _metadata(name: str, place: Place) -> Object:
    named = {"name": f"lightmill-{name}", "labels": {LABEL: name.removesuffix(CONFIG)}}
    return {**named, "namespace": place.namespace} if place.namespace else named


def _gpus(spec: JobSpec) -> int:
    """Whole ones, as Kubernetes has them, of the lane that wants the most."""
    return max(math.ceil(1 if lane.gpus_per_worker is None else lane.gpus_per_worker) for lane in spec.lanes)


def _most_workers(spec: JobSpec) -> int:
    bounds = [lane.workers.max for lane in spec.lanes]
    if any(bound is None for bound in bounds):
        action = "workers: {max: 8}, under each model of the job"
        said = "how many workers there may be is not said, and a cluster that begins with none cannot tell"
        raise InputError(Problem("LM1705", said, help=action))
    return sum(bound for bound in bounds if bound)


def _refuse_local(spec: JobSpec) -> None:
    local = {name: url for name, url in (("prompts", spec.prompts), ("output", spec.output)) if split(url)[0] is None}
    if local:
        action = "an s3:// prefix, which pods can reach"
        raise InputError(
            *(
                Problem("LM1705", f"{name} is a folder of this machine, which no pod has", value=url, help=action)
                for name, url in local.items()
            )
        )


def _ray_version() -> str:
    return metadata.version("ray")
