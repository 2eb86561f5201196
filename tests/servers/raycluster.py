"""A Ray cluster of one node on loopback that asks for a token, as a user's own would be."""

import secrets
import sys
from collections.abc import Iterator
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


@contextmanager
def ray_cluster(folder: Path, gpus: int = 0) -> Iterator[RayCluster]:
    """Started in the foreground, and ended with everything below it. Nothing is left in the home folder."""
    environment = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }
    (port,) = free_ports(1)
    command = [Path(sys.executable).with_name("ray"), "start", "--head", "--block", f"--port={port}"]
    command += [
        "--node-ip-address=127.0.0.1",
        "--num-cpus=4",
        f"--num-gpus={gpus}",
        "--include-dashboard=false",
        "--object-store-memory=134217728",
    ]
    with Child(command, folder, env=environment) as child:
        child.wait_for_line("Ray runtime started", START_S, "stdout")
        yield RayCluster(child, f"127.0.0.1:{port}", environment)
