"""Parcel: the code of a job, laid out as Ray's `working_dir`, so that the nodes need nothing of ours installed.

From a checkout or a wheel alike: what travels is the packages as they were imported here.
"""

import shutil
from collections.abc import Collection, Iterator
from importlib import metadata, resources
from pathlib import Path

from actors.models.registry import find_card
from jobs.spec import JobSpec

PACKAGES = ("actors", "jobs")
"""All that a driver and its workers import."""
LEFT_OUT = frozenset({"__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache"})
OWN_WEIGHTS = "demo"
"""How the folders of `actors/models` begin that hold the weights of a model, and not only words about it."""


def pack(folder: Path, spec: JobSpec) -> None:
    """Copy what the job runs to a folder that is there already."""
    for source, place in shipped(models_of(spec)):
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    _say_which(folder)


def shipped(models: Collection[str]) -> Iterator[tuple[Path, Path]]:
    """Each file that travels for a job with these models, and its place in the parcel."""
    for package in PACKAGES:
        root = Path(str(resources.files(package)))
        for source in sorted(root.rglob("*")):
            place = Path(package) / source.relative_to(root)
            if source.is_file() and LEFT_OUT.isdisjoint(place.parts) and not _is_others(place, models):
                yield source, place


def models_of(spec: JobSpec) -> set[str]:
    """Every name by which the job calls a model or a part of one, and the names of their cards."""
    called = {settings.model for lane in spec.lanes for settings in (lane, *lane.parts.values())}
    return called | {card.name for card in map(find_card, called) if card}


def _is_others(place: Path, models: Collection[str]) -> bool:
    """Whether it belongs to weights that come with lightmill and that this job does not use."""
    inside = place.parts[2:] if place.parts[:2] == ("actors", "models") else ()
    if len(inside) < 2 or not inside[0].startswith(OWN_WEIGHTS):
        return False
    return inside[0] not in {model.replace("-", "_") for model in models} | set(models)


def _say_which(folder: Path) -> None:
    """Whoever asks the parcel for the version of lightmill is told its own, whatever else is installed there."""
    version = metadata.version("lightmill")
    about = folder / f"lightmill-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: lightmill\nVersion: {version}\n")
