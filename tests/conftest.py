"""Fixtures of the whole suite: S3 servers started once and on demand, and an environment that reaches nothing else."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from processes import Child
from servers.moto import MotoServer
from servers.moto import moto_server as start_moto
from servers.rclone import RcloneServer, rclone_server
from servers.rgw import RgwServer, rgw_server
from servers.server import S3Server
from servers.store import S3Store, place_on

if TYPE_CHECKING:
    from servers.hub import Hub

SEALED = {
    "HF_HUB_OFFLINE": "1",
    "NO_PROXY": "127.0.0.1",
    "no_proxy": "127.0.0.1",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
    # Ray gives its workers a niceness of 15: beside other tests they would starve, and be taken for frozen.
    "RAY_worker_niceness": "0",
    # Threads of torch that wait for each other by spinning take the cores from those that they wait for, where several
    # tests share them: a run of the tiny model took 31 processor seconds instead of 8.
    "OMP_WAIT_POLICY": "PASSIVE",
}
"""No model hub, no proxy, and nobody's own cloud account or cluster, in the tests and in their child processes."""

for name in [name for name in os.environ if name.startswith(("AWS_", "LIGHTMILL_", "RAY_ADDRESS"))]:
    del os.environ[name]
os.environ.update(SEALED)

# Times on a loaded machine say nothing: no example has a deadline.
settings.register_profile("dev", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("dev"), max_examples=200, print_blob=True)
settings.register_profile("nightly", parent=settings.get_profile("ci"), max_examples=5000)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "dev")


def pytest_configure(config: pytest.Config) -> None:
    """Pictures are compared with those of a CPU, to the byte, and the recipes of a GPU say more."""
    if config.option.markexpr != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_make_parametrize_id(val: object) -> str | None:
    """Long texts are named by their beginning: the names of all tests go back and forth between the processes, and with
    whole texts of megabytes they were 47 MB for each of them."""
    return f"{ascii(val[:40])[1:-1]}..." if isinstance(val, (str, bytes)) and len(val) > 100 else None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """What was logged of names that are no UTF-8 cannot go from one process to the other as it is."""
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]


@pytest.fixture(scope="session")
def rgw() -> Iterator[RgwServer]:
    """Ceph's gateway: strict, strong preconditions."""
    with rgw_server() as server:
        yield server


@pytest.fixture(scope="session")
def rclone() -> Iterator[RcloneServer]:
    """rclone over a folder: ignores preconditions."""
    with rclone_server() as server:
        yield server


@pytest.fixture(scope="session")
def moto_server() -> Iterator[MotoServer]:
    """moto within this process."""
    with start_moto() as server:
        yield server


@pytest.fixture(params=["rgw-http", "rgw-tls", "rclone-http", "rclone-tls"])
def s3_store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> S3Store:
    """A test with this fixture runs on both servers, over HTTP and over TLS."""
    name, _, transport = request.param.partition("-")
    server: S3Server = request.getfixturevalue(name)
    return place_on(server, server.tls_endpoint if transport == "tls" else server.endpoint, monkeypatch)


@pytest.fixture
def moto_store(moto_server: MotoServer, monkeypatch: pytest.MonkeyPatch) -> S3Store:
    """A store in the same process, for unit tests."""
    return place_on(moto_server, moto_server.endpoint, monkeypatch)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Iterator[Hub]":
    """A model hub on this machine in the place of the real one, with the built-in model as someone's."""
    from actors.models.tiny import tiny_folder
    from pipelines import copy_of_tiny
    from servers.hub import MODEL, hub_in_place

    with hub_in_place(tmp_path, monkeypatch) as hub:
        hub.repositories[MODEL] = copy_of_tiny(tiny_folder(), tmp_path / "repository")
        yield hub


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Callable[..., Child]]:
    """Start real processes, `spawn(lightmill("run", ...), env={...})`; none of them outlives the test."""
    with ExitStack() as children:

        def start(command: Sequence[str | Path], **options: dict[str, str]) -> Child:
            return children.enter_context(Child(command, tmp_path, **options))

        yield start
