"""Machines: what a running cluster consists of, asked of its head without joining it."""

import json
from dataclasses import dataclass

from ray._raylet import GcsClient  # type: ignore[attr-defined] # of a compiled module
from ray.exceptions import RayError

from actors.errors import ClusterError, Problem

ASK_SECONDS = 10
ALIVE = 0
"""As Ray counts the states of a node."""
HEAD = "node:__internal_head__"
"""The resource that only the head has."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine that is up."""

    name: str
    is_head: bool
    cpus: float
    gpus: float


@dataclass(frozen=True, slots=True)
class Cluster:
    """The versions that it runs, and its machines."""

    ray: str
    python: str
    machines: tuple[Machine, ...]


def look(address: str) -> Cluster:
    """The cluster whose head answers at `HOST:PORT`. Raises `ClusterError`."""
    try:
        client = GcsClient(address=address)
        about = json.loads(client.internal_kv_get(b"CLUSTER_METADATA", namespace=b"cluster", timeout=ASK_SECONDS))
        found = client.get_all_node_info(timeout=ASK_SECONDS).values()
    except (ConnectionError, RayError, RuntimeError, TimeoutError, TypeError, ValueError) as error:
        raise ClusterError(unreachable(address, error)) from error
    machines = tuple(
        _machine(info.node_manager_address, dict(info.resources_total)) for info in found if info.state == ALIVE
    )
    return Cluster(about["ray_version"], about["python_version"], machines)


def _machine(name: str, resources: dict[str, float]) -> Machine:
    return Machine(name, HEAD in resources, resources.get("CPU", 0.0), resources.get("GPU", 0.0))


def unreachable(address: str, error: Exception) -> Problem:
    """Why it does not, and what to look at."""
    return Problem(
        "LM1501",
        f"no Ray cluster answers at {address}",
        value=str(error).strip().partition("\n")[0][:300],
        help="is it up, and has this shell its token (RAY_AUTH_MODE, RAY_AUTH_TOKEN)?",
    )
