"""Engine: Ray itself, either a private one for this run or a cluster that is already running."""

import contextlib
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import ray
from ray._raylet import GcsClient  # type: ignore[attr-defined] # of a compiled module
from ray.exceptions import RayError

from actors.errors import ClusterError
from jobs.guard import guarded
from jobs.lanes import most_workers
from jobs.machines import unreachable
from jobs.metrics import Metrics, has_agent
from jobs.order import RunOrder
from jobs.parcel import pack
from jobs.pool import RayPool, WorkerPool
from jobs.spec import JobSpec

OBJECT_STORE_BYTES = 128 * 1024**2
"""Only reports travel, about 200 kB a shard: pixels never enter Ray's object store."""


Workers = Callable[[RunOrder], AbstractContextManager[tuple[WorkerPool, float]]]
"""Where a run's workers are, for its length; and how many GPUs are there."""


@contextlib.contextmanager
def ray_workers(order: RunOrder) -> Iterator[tuple[WorkerPool, float]]:
    """Workers on Ray, ended with the run."""
    with engine(order):
        metrics = Metrics(order.spec.name) if order.address and has_agent() else None
        pool = RayPool(order.spec.limits.batch_timeout_seconds, metrics)
        try:
            yield pool, float(ray.cluster_resources().get("GPU", 0))
        finally:
            pool.close()


@contextlib.contextmanager
def engine(order: RunOrder) -> Iterator[None]:
    """Connect to Ray for the length of a run. Raises `ClusterError`.

    Without an address, Ray is started on this machine, without a dashboard, and ends with this process (see
    `jobs.__main__` for what keeps it to itself). With one, the code travels along, so that the nodes need
    nothing of ours installed; where this driver was itself submitted to the cluster, it has done so already.
    """
    address = order.address
    common: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    with guarded() if address is None else contextlib.nullcontext():
        with keeping_sigterm():
            if address is None:
                ray.init(
                    address="local",
                    include_dashboard=False,
                    num_cpus=max(os.cpu_count() or 1, most_workers(order.spec)),
                    object_store_memory=OBJECT_STORE_BYTES,
                    **common,
                )
            else:
                _connect(address, common, None if order.submission else order.spec)
        try:
            if address is None:
                _end_autoscaler()
            yield
        finally:
            ray.shutdown()


def _end_autoscaler() -> None:
    """Ray starts one with every head. Here it has nothing to do, and `ray.shutdown` waits a second for its end."""
    with contextlib.suppress(AttributeError):  # of a Ray that has it otherwise, and takes that second
        node: Any = ray._private.worker._global_node
        node.kill_monitor(check_alive=False)


@contextlib.contextmanager
def keeping_sigterm() -> Iterator[None]:
    """`ray.init` puts a handler of its own in the place of ours, which ends the process in the middle of a batch."""
    ours = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():  # no other may, nor does Ray
            signal.signal(signal.SIGTERM, ours)


def _connect(address: str, common: dict[str, Any], to_pack: JobSpec | None) -> None:
    with tempfile.TemporaryDirectory(prefix="lightmill-code-") as code:
        if to_pack:
            pack(Path(code), to_pack)
        try:
            _knock(address)
            ray.init(address=address, runtime_env={"working_dir": code} if to_pack else None, **common)
        except (ConnectionError, RayError, RuntimeError, ValueError) as error:
            raise ClusterError(unreachable(address, error)) from error


def _knock(address: str) -> None:
    """Ask once, and hear why not. `ray.init` asks 20 times, also where the token is wrong, and takes 40 s each time
    that nobody answers."""
    if address != "auto" and "://" not in address:
        GcsClient(address=address)
