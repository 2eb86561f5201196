"""`rclone serve s3` over folders: the weak server of the tests, which takes preconditions and ignores them."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from processes import Child
from servers.server import S3Server

RCLONE = Path(sys.executable).with_name("rclone")


class RcloneServer(S3Server):
    """One process for HTTP and one for TLS, each over its own folder: what is put over one is not seen over the other.

    They could share a folder only without rclone's cache of it, and then each PUT reads the folder anew: 90 a second
    among 1,200 objects, instead of 400. They are killed and started together.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.folders = folder / "http", folder / "tls"
        for data in self.folders:
            data.mkdir()
        self._gateways: list[Child] = []
        try:
            self.start_gateway()
        except BaseException:
            self.stop()
            raise

    def start_gateway(self) -> None:
        tls = ("--cert", self.certificates.certificate, "--key", self.certificates.key)
        plain_folder, tls_folder = self.folders
        self._gateways = [self._spawn(plain_folder, self.port), self._spawn(tls_folder, self.tls_port, *tls)]
        self.wait_until_serving()

    def _spawn(self, data: Path, port: int, *arguments: str | Path) -> Child:
        command = [RCLONE, "serve", "s3", data, "--addr", f"127.0.0.1:{port}", *arguments]
        command += ["--auth-key", f"{self.access_key},{self.secret_key}", "--config", ""]
        # Neither process may remember what the folder held: the other one writes there too. With `0s` rclone reads
        # folders in a loop, and a PUT into the third one takes a minute.
        command += ["--vfs-cache-mode", "off", "--dir-cache-time", "1ms"]
        return Child(command, self.folder)

    def kill_gateway(self) -> None:
        for gateway in self._gateways:
            gateway.kill()
            gateway.end()

    def stop(self) -> None:
        for gateway in self._gateways:
            gateway.end()

    def processes(self) -> list[int]:
        return [gateway.pid for gateway in self._gateways]


@contextmanager
def rclone_server() -> Iterator[RcloneServer]:
    """Start a server over new empty folders."""
    with tempfile.TemporaryDirectory(prefix="lightmill-rclone-") as folder, RcloneServer(Path(folder)) as server:
        yield server
