"""Checkout: the repository that the code runs from, where it does."""

import shutil
import subprocess
from importlib import resources
from pathlib import Path


def commit() -> str | None:
    """The commit of the code, where it runs from a checkout."""
    checkout = Path(str(resources.files("cluster"))).parent
    if not (checkout / ".git").exists() or not shutil.which("git"):
        return None
    found = subprocess.run(["git", "-C", checkout, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or None
