"""`rclone serve s3` over a folder: the weak server of the tests, which takes preconditions and ignores them."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from processes import Child
from servers.server import S3Server

RCLONE = Path(sys.executable).with_name("rclone")


class RcloneServer(S3Server):
    """One process for HTTP and one for TLS over the same folder; they are killed and started together."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.data = folder / "data"
        self.data.mkdir()
        self._gateways: list[Child] = []
        try:
            self.start_gateway()
        except BaseException:
            self.stop()
            raise

    def start_gateway(self) -> None:
        tls = ("--cert", self.certificates.certificate, "--key", self.certificates.key)
        self._gateways = [self._spawn(self.port), self._spawn(self.tls_port, *tls)]
        self.wait_until_serving()

    def _spawn(self, port: int, *arguments: str | Path) -> Child:
        command = [RCLONE, "serve", "s3", self.data, "--addr", f"127.0.0.1:{port}", *arguments]
        command += ["--auth-key", f"{self.access_key},{self.secret_key}", "--config", ""]
        # Neither process may remember what the folder held: the other one writes there too.
        command += ["--vfs-cache-mode", "off", "--dir-cache-time", "0s"]
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
    """Start a server over a new empty folder."""
    with tempfile.TemporaryDirectory(prefix="lightmill-rclone-") as folder, RcloneServer(Path(folder)) as server:
        yield server
