"""One run of a job on Kubernetes: what `lightmill submit --render` writes."""

import hashlib
import re
from collections.abc import Sequence

import yaml

from cluster.baggage import at_the_store
from cluster.kubernetes.kuberay import RayJob
from cluster.kubernetes.pods import HOW, JOB_PATH, PREFIX, Place, config_map, dump, named, ray_job, refuse_local
from jobs.spec import JobSpec

DIGITS = 8
"""Of the hash of an output: jobs of one name and different places are different objects."""
LETTERS = RayJob.longest - len(PREFIX) - DIGITS - 1


def render(spec: JobSpec, place: Place, flags: Sequence[str] = ()) -> str:
    """Two documents: the job in a ConfigMap, as file, environment and flags describe it together, and a RayJob that
    runs it with these flags of `lightmill run`. Raises `InputError` for what cannot run there."""
    refuse_local(spec)
    found = at_the_store(spec)
    fields = found.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    job = yaml.safe_dump({name: value for name, value in fields.items() if value != {}}, sort_keys=False)
    name = _name(found)
    runs = ray_job(name, ("lightmill", "run", JOB_PATH, "--address", "auto", *flags), place, found)
    return f"{HOW}# {runs.needs}\n{dump(config_map(name, job, place), named(runs, name, place))}"


def _name(spec: JobSpec) -> str:
    """The same whenever the same job is rendered: applied twice, it is one run."""
    letters = re.sub(r"[^a-z0-9]+", "-", spec.name.lower())[:LETTERS].strip("-")
    return f"{letters}-{hashlib.sha256(spec.output.encode()).hexdigest()[:DIGITS]}"
