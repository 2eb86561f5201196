"""Manifests: what Kubernetes is given so that a schedule runs there."""

from pathlib import Path
from typing import Literal

from actors.errors import InputError, Problem
from cluster.jobfile import load_job
from cluster.kubernetes.kuberay import RayCronJob, RayJob
from cluster.kubernetes.pods import (
    HOW,
    JOB_PATH,
    PREFIX,
    Object,
    Place,
    about,
    config_map,
    dump,
    gpus,
    named,
    pod,
    ray_job,
    refuse_local,
    resources,
)
from cluster.schedule.schedule import Schedule
from jobs.spec import JobSpec

LONGEST_SECONDS = 24 * 3600
PATIENCE_SECONDS = 600
"""After its time: a controller that was away begins the slot all the same."""


def render(schedule: Schedule, kind: Literal["cronjob", "rayjob", "raycronjob"], place: Place) -> str:
    """Two documents: the job file in a ConfigMap, and what runs it. Raises `InputError` for what cannot run there."""
    spec = load_job(Path(schedule.job), {}, fill=str)
    refuse_local(spec)
    name = schedule.name
    there = schedule.model_copy(update={"job": JOB_PATH})
    if kind == "cronjob":
        document, note = _cron_job(there, place, spec), ""
    else:
        words = there.model_copy(update={"address": "auto"}).words("lightmill")
        job = ray_job(name, words, place, spec, LONGEST_SECONDS)
        made = job if kind == "rayjob" else RayCronJob.of(schedule.timetable.portable, schedule.timezone, job)
        _refuse_long(name, made)
        document, note = named(made, name, place), f"# {made.needs}\n"
    config = config_map(name, Path(schedule.job).read_text(), place)
    return f"{schedule.mark}\n{HOW}{note}{dump(config, document)}"


def _cron_job(schedule: Schedule, place: Place, spec: JobSpec) -> Object:
    """One pod makes the slot, on its own GPU; or submits it, where the schedule has the address of a cluster."""
    wanted = 0 if schedule.address else gpus(spec)
    template = pod(schedule.name, place, "lightmill", {"args": schedule.words("lightmill")}, resources(wanted))
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
        "metadata": about(schedule.name, place),
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


def _refuse_long(name: str, made: RayJob | RayCronJob) -> None:
    """KubeRay adds letters of its own, for the clusters and their services."""
    most = made.longest - len(PREFIX)
    if len(name) > most:
        said = f"too long a name for a {made.kind}, whose clusters have longer ones"
        raise InputError(Problem("LM1707", said, value=name, help=f"at most {most} letters"))
