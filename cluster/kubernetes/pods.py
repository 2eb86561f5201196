"""Pods: a job as Kubernetes has it: its file in a ConfigMap, and what runs it, which may do no more than it has to."""

import math
import shlex
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import yaml

from actors.errors import InputError, Problem
from actors.models.registry import SUFFIXES, find_card
from actors.models.settings import ModelSettings
from actors.settings import Settings
from cluster.baggage import is_here
from cluster.kubernetes.kuberay import Head, RayCluster, RayCronJob, RayJob, Workers
from jobs.lanes import wants_gpu
from jobs.spec import JobSpec

JOB_FOLDER, JOB_FILE = "/etc/lightmill", "job.yaml"
JOB_PATH = f"{JOB_FOLDER}/{JOB_FILE}"
GPUS_TO_COME_SECONDS = 1800
"""Until the workers' machines are there."""
KEPT_SECONDS = 600
"""Of a cluster whose job is over: time to look at it."""
SHARED_MEMORY = "1Gi"
GPU = "nvidia.com/gpu"
GPU_TOLERATION = {"key": GPU, "operator": "Exists", "effect": "NoSchedule"}
"""The taint that keeps other work off machines with GPUs is named like the resource; only some clusters add this by
themselves (https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#extendedresourcetoleration).
"""
USER = 1000
"""Of the image in docker/Dockerfile."""
LABEL = "lightmill"
"""Its value is the name of what belongs together."""
PREFIX, CONFIG = "lightmill-", "-job"
HOW = "# kubectl apply --server-side --dry-run=server -f FILE; then without --dry-run\n"
Object = dict[str, Any]


class _Blocks(yaml.SafeDumper):
    """Text of several lines stays legible, and no part of a document is named and referred to."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ANN401
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", data, style="|" if "\n" in data else None)


_Blocks.add_representer(str, _Blocks.represent_str)


class Place(Settings):
    """What has to be known of the Kubernetes that a job runs on."""

    image: str
    secret: str | None = None
    """Name of a Secret with the store's credentials as variables; None: the pods have a role of their own."""
    namespace: str | None = None


def refuse_local(spec: JobSpec) -> None:
    """Raise `InputError` with all that lies on this machine alone: a manifest brings nothing but the job file."""
    named = {"prompts": spec.prompts, "output": spec.output, "prompt_filter.block_list": spec.prompt_filter.block_list}
    kind = "stages" if spec.stages else "models"
    cards = {f"{kind}[{number}].model": lane.model for number, lane in enumerate(spec.lanes)}
    named |= {name: model for name, model in cards.items() if model.endswith(SUFFIXES)}
    local = {name: url for name, url in named.items() if url and is_here(url)}
    if local:
        help_ = "put it on the store, and name its s3:// address; a card into the image"
        raise InputError(
            *(
                Problem("LM1705", f"{name} is on this machine, where no pod sees it", value=url, help=help_)
                for name, url in local.items()
            )
        )


def dump(*documents: Object) -> str:
    """As YAML, one after the other."""
    return yaml.dump_all(documents, Dumper=_Blocks, sort_keys=False, width=1000, allow_unicode=True)


def about(name: str, place: Place) -> Object:
    """`metadata` of an object."""
    named = {"name": f"{PREFIX}{name}", "labels": {LABEL: name.removesuffix(CONFIG)}}
    return {**named, "namespace": place.namespace} if place.namespace else named


def config_map(name: str, job: str, place: Place) -> Object:
    """It holds the text of the job file."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": about(name + CONFIG, place), "data": {JOB_FILE: job}}


def named(made: RayJob | RayCronJob, name: str, place: Place) -> Object:
    """An object of KubeRay's with its metadata, in the usual order."""
    body = made.dump()
    spec = body.pop("spec")
    return {**body, "metadata": about(name, place), "spec": spec}


def ray_job(name: str, words: Sequence[str], place: Place, spec: JobSpec, longest: int | None = None) -> RayJob:
    """A cluster for one run: the driver, which these words start, on its head, which takes no work, and workers from
    nothing. `longest`: seconds after which the run is ended."""
    head = pod(name, place, "ray-head", {}, {"requests": {"cpu": "2", "memory": "8Gi"}, "limits": {"memory": "8Gi"}})
    worker = pod(name, place, "ray-worker", {}, resources(gpus(spec)), with_job=False)
    worker["spec"]["automountServiceAccountToken"] = False
    cluster = RayCluster(
        ray_version=metadata.version("ray"),
        head_group_spec=Head(template=head),
        worker_group_specs=(Workers(group_name="workers", max_replicas=_most_workers(spec), template=worker),),
    )
    return RayJob.of(shlex.join(words), cluster, GPUS_TO_COME_SECONDS, longest, KEPT_SECONDS)


def pod(name: str, place: Place, container: str, more: Object, resources: Object, *, with_job: bool = True) -> Object:
    """A pod template with one container of the image, that may do no more than it has to."""
    mounts = [{"name": "shared-memory", "mountPath": "/dev/shm"}]  # noqa: S108 - where Ray looks for it
    volumes: list[Object] = [{"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": SHARED_MEMORY}}]
    if with_job:
        mounts.append({"name": "job", "mountPath": JOB_FOLDER, "readOnly": True})  # type: ignore[dict-item]
        volumes.append({"name": "job", "configMap": {"name": f"{PREFIX}{name}{CONFIG}"}})
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
        **({"tolerations": [GPU_TOLERATION]} if GPU in resources["limits"] else {}),
    }
    return {"metadata": {"labels": {LABEL: name}}, "spec": within}


def resources(gpus: int) -> Object:
    """Of a container with so many GPUs."""
    limits = {"memory": "32Gi", GPU: gpus} if gpus else {"memory": "8Gi"}
    return {"requests": {"cpu": "4" if gpus else "2", "memory": limits["memory"]}, "limits": limits}


def gpus(spec: JobSpec) -> int:
    """Whole ones, as Kubernetes has them, of the lane that wants the most."""
    return max(math.ceil(lane.gpus_per_worker or 1) if _wants_gpu(lane) else 0 for lane in spec.lanes)


def _wants_gpu(lane: ModelSettings) -> bool:
    return wants_gpu(lane, find_card(lane.model))


def _most_workers(spec: JobSpec) -> int:
    """Raises `InputError` where that cannot be known, or not whether they have GPUs."""
    said = "is not said, and a cluster that begins with none cannot tell"
    if any(lane.workers.max is None for lane in spec.lanes):
        action = "workers: {max: 8}, under each model of the job"
        raise InputError(Problem("LM1705", f"how many workers there may be {said}", help=action))
    if any(lane.gpus_per_worker is None and _wants_gpu(lane) for lane in spec.lanes):
        action = "gpus_per_worker: 1, under each model of the job"
        raise InputError(Problem("LM1705", f"how many GPUs a worker has {said}", help=action))
    return sum(lane.workers.max or 0 for lane in spec.lanes)
