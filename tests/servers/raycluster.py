"""A Ray cluster on loopback that asks for a token, as a user's own would be: a head, and machines that come and go."""

import re
import secrets
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from processes import Child, command_line
from servers.ports import free_ports

START_S = 180
BRISK = {
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_failure_threshold": "3",
}
"""That a machine is gone is found in 2 s, and not in 18."""
RAY = Path(sys.executable).with_name("ray")
SPARE = "--include-log-monitor=false"
"""What nobody asks for: it looks for new logs ten times a second, to print them for a driver that wants none, which
took a third of what all of Ray's own processes of an idle machine did."""


@dataclass(frozen=True, slots=True)
class RayCluster:
    """Where it is, and what its clients need in their environment."""

    child: Child
    address: str
    environment: dict[str, str] = field(repr=False)
    folder: Path
    metrics: str
    """Where Prometheus would ask its head's agent."""
    jobs_url: str
    """Of its Jobs API, where it was started with one."""
    session: Path
    """Where Ray keeps its logs."""

    @contextmanager
    def node(self, gpus: int = 1, **environment: str) -> Iterator["RayNode"]:
        """One more machine, with GPUs that it pretends to have; it is there when it has joined. Its workers have this
        in their environment."""
        command = [RAY, "start", "--block", f"--address={self.address}", "--node-ip-address=127.0.0.1"]
        command += [f"--num-cpus={2 * gpus}", f"--num-gpus={gpus}", "--object-store-memory=134217728", SPARE]
        with Child(command, self.folder, env={**self.environment, **pretended(gpus), **environment}) as child:
            child.wait_for_line("Ray runtime started", START_S, "stdout")
            yield RayNode(self, child)


@dataclass(frozen=True, slots=True)
class RayNode:
    """A machine of a cluster."""

    cluster: RayCluster
    child: Child

    @property
    def id(self) -> str:
        """As Ray knows it."""
        (raylet,) = self.child.descendants(r"/raylet ")
        return re.search(r"--node_id=(\w+)", command_line(raylet))[1]

    def drain(self, seconds: int) -> None:
        """Announce that it is taken away in so many seconds, as a spot machine's notice is."""
        command = [RAY, "drain-node", f"--address={self.cluster.address}", f"--node-id={self.id}"]
        command += ["--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=spot"]
        command += [f"--deadline-remaining-seconds={seconds}"]
        with Child(command, self.cluster.folder, env=self.cluster.environment) as child:
            assert child.wait(START_S) == 0, child

    def kill(self) -> None:
        """Pull the plug."""
        self.child.end()


def pretended(gpus: int) -> dict[str, str]:
    """The environment of a machine with so many GPUs that are not there: Ray wants them named."""
    return {"CUDA_VISIBLE_DEVICES": ",".join(["-1"] * gpus)}


@contextmanager
def ray_cluster(
    folder: Path,
    *,
    gpus: int = 0,
    cpus: int = 4,
    jobs: bool = False,
    health: Mapping[str, str] = BRISK,
    env: Mapping[str, str] | None = None,
) -> Iterator[RayCluster]:
    """Started in the foreground, and ended with everything below it. Nothing is left in the home folder.

    With `jobs` it takes submissions. `health` says how it looks after its nodes; `env` is what its nodes have, and its
    clients have not.
    """
    environment = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0" if cpus else "1",  # 0: no machine may join
        **health,
    }
    port, metrics_port, jobs_port, agent_port = free_ports(4)
    command = [RAY, "start", "--head", "--block", f"--port={port}"]
    command += [
        "--node-ip-address=127.0.0.1",
        f"--num-cpus={cpus}",
        f"--num-gpus={gpus}",
        f"--metrics-export-port={metrics_port}",
        f"--include-dashboard={str(jobs).lower()}",
        "--dashboard-host=127.0.0.1",
        f"--dashboard-port={jobs_port}",
        f"--dashboard-agent-listen-port={agent_port}",
        "--object-store-memory=134217728",
        "--no-monitor",  # nobody starts machines
        SPARE,
    ]
    # The paths of sockets have 107 bytes at most, which pytest's folders are too long for.
    with tempfile.TemporaryDirectory(prefix="lm-ray-", dir="/tmp") as session:
        command.append(f"--temp-dir={session}")
        with Child(command, folder, env={**environment, **pretended(gpus), **(env or {})}) as child:
            child.wait_for_line("Ray runtime started", START_S, "stdout")
            metrics, url = f"http://127.0.0.1:{metrics_port}/metrics", f"http://127.0.0.1:{jobs_port}" if jobs else ""
            yield RayCluster(child, f"127.0.0.1:{port}", environment, folder, metrics, url, Path(session))
