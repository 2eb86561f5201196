"""Ceph's S3 gateway over a cluster of one monitor and one in-memory store: the strict and strong server of the tests.

It checks signatures, clocks and policies, refuses checksum trailers over TLS, and its If-None-Match is atomic.
"""

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from processes import Child
from servers.ports import free_ports
from servers.server import START_TIMEOUT_S, S3Server

PROGRAMS = ("radosgw", "radosgw-admin", "ceph-mon", "ceph-osd", "monmaptool")
INSTALL = "apt-get install --no-install-recommends radosgw ceph-mon ceph-osd"

CONF = """
[global]
fsid = {fsid}
monmap = {folder}/monmap
mon data = {folder}/mon
osd data = {folder}/osd
run dir = {folder}
keyring = {folder}/keyring
log file = {folder}/$name.log
admin socket =
ms bind msgr2 = false
auth cluster required = none
auth service required = none
auth client required = none
mon allow pool size one = true
# Health warnings about a full disk stop the monitor; nothing of the data is on it.
mon data avail crit = 1
# One monitor has nobody to wait for: with the defaults (1 s, 0.05 s, 5 s) the cluster takes ten seconds to come up.
paxos propose interval = 0.05
paxos min wait = 0.02
mon tick interval = 1
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = 8589934592
# A killed gateway still counts as a listener of the others' news for this long, 30 s by default, and whoever creates a
# bucket waits for its answer. Living listeners report by the tick.
osd client watch timeout = 3
objecter tick interval = 0.5
rgw thread pool size = 64
# Deleted objects are kept in memory for two hours by default.
rgw gc obj min wait = 5
rgw gc processor period = 5
rgw frontends = beast endpoint=127.0.0.1:{port} ssl_endpoint=127.0.0.1:{tls_port} ssl_certificate={certificate} \
ssl_private_key={key} tcp_nodelay=1
"""


class RgwServer(S3Server):
    """Monitor, store and gateway are three processes; only the gateway is killed and started again."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.conf = folder / "ceph.conf"
        self._cluster: list[Child] = []
        self._gateway: Child | None = None
        try:
            self._start_cluster()
            self.start_gateway()
        except BaseException:
            self.stop()
            raise

    def _start_cluster(self) -> None:
        fsid = str(uuid.uuid4())
        mon_port = free_ports(1)[0]
        (self.folder / "osd").mkdir()
        self.conf.write_text(
            CONF.format(
                fsid=fsid,
                folder=self.folder,
                port=self.port,
                tls_port=self.tls_port,
                certificate=self.certificates.certificate,
                key=self.certificates.key,
            )
        )
        address = f"[v1:127.0.0.1:{mon_port}]"
        self._run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", address, "monmap")
        self._run("ceph-mon", "--id", "a", "--mkfs", "--monmap", "monmap")
        self._cluster.append(self._spawn("ceph-mon", "--id", "a", "--foreground"))
        self._run("ceph-osd", "--id", "0", "--mkfs")
        # It registers itself with the monitor when it starts.
        self._cluster.append(self._spawn("ceph-osd", "--id", "0", "--foreground"))
        user = ("--uid", "lightmill", "--display-name", "lightmill")
        keys = ("--access-key", self.access_key, "--secret-key", self.secret_key)
        self._run("radosgw-admin", "user", "create", *user, *keys)

    def start_gateway(self) -> None:
        self._gateway = self._spawn("radosgw", "--name", "client.rgw", "--foreground")
        self.wait_until_serving()

    def kill_gateway(self) -> None:
        assert self._gateway
        self._gateway.kill()
        self._gateway.end()

    def stop(self) -> None:
        for child in (self._gateway, *reversed(self._cluster)):
            if child:
                child.end()

    def processes(self) -> list[int]:
        """The pids of the three, the gateway first."""
        return [child.pid for child in (self._gateway, *self._cluster) if child]

    def _spawn(self, program: str, *arguments: str) -> Child:
        return Child([program, *self._options, *arguments], self.folder)

    def _run(self, program: str, *arguments: str) -> None:
        """A short command of the set-up, to its end."""
        with self._spawn(program, *arguments) as command:
            status = command.wait(START_TIMEOUT_S)
            assert status == 0, f"{command} ended with {status}"

    @property
    def _options(self) -> list[str | Path]:
        """Only from the map in `ceph.conf` does a program know the cluster's id from the start.

        Programs that fetch map and settings from the monitor now and then send their first command with an id of
        zeros, which the monitor refuses as "wrong fsid". `ceph`, which knows no such option, is not used at all.
        """
        return ["--conf", self.conf, "--no-mon-config"]


@contextmanager
def rgw_server() -> Iterator[RgwServer]:
    """Start a cluster of its own; skips the test where Ceph is not installed, and fails there under CI."""
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        refuse = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        refuse(f"{', '.join(missing)} not found; {INSTALL}")
    with tempfile.TemporaryDirectory(prefix="lightmill-rgw-") as folder, RgwServer(Path(folder)) as server:
        yield server
