"""A Ray cluster of one node on loopback that asks for a token, as a user's own would be."""

import secrets
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from processes import Child
from servers.ports import free_ports

START_S = 180


@dataclass(frozen=True, slots=True)
class RayCluster:
    """Where it is, and what its clients need in their environment."""

    child: Child
    address: str
    environment: dict[str, str] = field(repr=False)
    jobs_url: str = ""
    """Of its Jobs API, where it was started with one."""
    session: Path | None = None
    """Where Ray keeps its logs."""


@contextmanager
def ray_cluster(
    folder: Path, gpus: int = 0, *, jobs: bool = False, env: Mapping[str, str] | None = None
) -> Iterator[RayCluster]:
    """Started in the foreground, and ended with everything below it. Nothing is left in the home folder.

    With `jobs` it takes submissions. `env` is what its nodes have, and its clients have not.
    """
    environment = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }
    port, jobs_port, agent_port = free_ports(3)
    command = [Path(sys.executable).with_name("ray"), "start", "--head", "--block", f"--port={port}"]
    command += [
        "--node-ip-address=127.0.0.1",
        "--num-cpus=4",
        f"--num-gpus={gpus}",
        f"--include-dashboard={str(jobs).lower()}",
        "--dashboard-host=127.0.0.1",
        f"--dashboard-port={jobs_port}",
        f"--dashboard-agent-listen-port={agent_port}",
        "--object-store-memory=134217728",
    ]
    # The paths of sockets have 107 bytes at most, which pytest's folders are too long for.
    with tempfile.TemporaryDirectory(prefix="lm-ray-", dir="/tmp") as session:
        command.append(f"--temp-dir={session}")
        with Child(command, folder, env={**environment, **(env or {})}) as child:
            child.wait_for_line("Ray runtime started", START_S, "stdout")
            url = f"http://127.0.0.1:{jobs_port}" if jobs else ""
            yield RayCluster(child, f"127.0.0.1:{port}", environment, url, Path(session))
