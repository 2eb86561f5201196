"""Shelf: the manifests of schedules that Kubernetes runs, kept where this user's other settings are."""

import os
from pathlib import Path

from cluster.schedule.schedule import Schedule, read_marks


def add(name: str, text: str) -> str:
    """Keep the manifest, in the place of an older one of its name. Where it is."""
    path = _path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def remove(name: str) -> bool:
    """Forget the manifest. Whether there was one."""
    there = _path(name).exists()
    _path(name).unlink(missing_ok=True)
    return there


def schedules() -> list[Schedule]:
    """Those that there are manifests of."""
    return [one for path in sorted(_path("").parent.glob("*.yaml")) for one in read_marks(path.read_text())]


def _path(name: str) -> Path:
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "lightmill" / "schedules" / f"{name}.yaml"
