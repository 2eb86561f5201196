"""Preflight: every machine of a cluster looked at before a job is sent there. It runs on the cluster itself."""

import traceback
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.checkup import TRACES, check_up
from actors.errors import StorageError, as_ours
from actors.storage.opening import FIRST_MEETING_SECONDS, open_bucket
from jobs.leash import Leash
from jobs.order import PreflightOrder

NODE_SECONDS = 90
"""For a machine to start a worker and look around."""


def preflight(order: PreflightOrder, leash: Leash) -> int:
    """Tell the leash what each machine is like; the exit status says no more than that it was told."""
    try:
        ray.init(address="auto", log_to_driver=False, configure_logging=False)
        leash.end(0, {"message": "looked at", "machines": list(_machines(order))})
    except Exception as error:  # noqa: BLE001  whatever it is, whoever asked gets a last word
        traceback.print_exc()
        failure = as_ours(error)
        leash.fail(failure)
        leash.end(failure.exit_code, {"message": "not looked at"})
        return failure.exit_code
    finally:
        _remove_traces(order)
        ray.shutdown()
    return 0


def _machines(order: PreflightOrder) -> Iterator[dict[str, Any]]:
    """Each one's address, resources and checkup; without the last where it did not answer in time."""
    look = ray.remote(num_cpus=0, max_retries=0)(check_up)
    asked = []
    for node in (node for node in ray.nodes() if node["Alive"]):
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        answer = look.options(scheduling_strategy=there).remote(order.spec.output, order.spec.storage, order.beacon)
        asked.append((node, answer))
    ray.wait([answer for _, answer in asked], num_returns=len(asked), timeout=NODE_SECONDS)
    for node, answer in asked:
        resources = {name: node["Resources"].get(name, 0.0) for name in ("CPU", "GPU")}
        found: dict[str, Any] = {"address": node["NodeManagerAddress"], **resources, "checkup": None, "error": ""}
        try:
            found["checkup"] = asdict(ray.get(answer, timeout=0))
        except RayError as error:
            found["error"] = str(error).strip().rpartition("\n")[2][:300] or type(error).__name__
        yield found


def _remove_traces(order: PreflightOrder) -> None:
    """By the driver, as workers need no right to delete."""
    try:
        bucket = open_bucket(order.spec.output, order.spec.storage, patience_seconds=FIRST_MEETING_SECONDS)
        for info in list(bucket.list(TRACES)):
            bucket.delete(info.key)
    except StorageError:
        pass  # of which the machines have told; `clean` takes what is left
