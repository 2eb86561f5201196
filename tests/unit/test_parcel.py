"""What travels to a cluster: the same from a checkout and from a wheel, small, and able to start a driver."""

import json
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from builders import make_spec
from jobs import parcel
from jobs.parcel import pack, shipped

ROOT = Path(__file__).parents[2]
LIST = """
import json, sys
sys.path.insert(0, sys.argv[1])
import jobs.parcel
assert jobs.parcel.__file__.startswith(sys.argv[1]), jobs.parcel.__file__
print(json.dumps([str(place) for _, place in jobs.parcel.shipped(())]))
"""


def test_a_wheel_ships_what_a_checkout_ships(tmp_path):
    """As pip lays a wheel out: the packages beside everybody else's, with caches in them."""
    for package in ("cluster", "jobs", "actors"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "numpy-of-another").mkdir()
    cache = tmp_path / "jobs" / "__pycache__"
    cache.mkdir()
    (cache / "driver.cpython-311.pyc").write_bytes(b"stale")
    done = subprocess.run(
        [sys.executable, "-P", "-c", LIST, str(tmp_path)], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    here = [str(place) for _, place in shipped(())]
    assert json.loads(done.stdout) == here
    assert {"jobs/__main__.py", "actors/worker.py", "actors/models/cards/tiny.yaml"} <= set(here)
    assert not [place for place in here if "__pycache__" in place]


def test_a_parcel_is_small_and_starts_a_driver(tmp_path):
    """With nothing else of ours on the path. The order is none, which the driver gets far enough to say."""
    pack(tmp_path, make_spec(tmp_path / "job"))
    size = sum(file.stat().st_size for place in ("actors", "jobs") for file in (tmp_path / place).rglob("*"))
    assert size < 2_000_000
    code = "import sys; sys.path.insert(0, '.'); import jobs, actors; from importlib import metadata\n"
    code += "print(jobs.__file__, actors.__file__, metadata.version('lightmill'))"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    ours, theirs, version = done.stdout.split()
    assert Path(ours).is_relative_to(tmp_path)
    assert Path(theirs).is_relative_to(tmp_path)
    assert version == metadata.version("lightmill")


@pytest.mark.parametrize(
    ("models", "travels"),
    [((), set()), (("demo",), {"demo"}), (("demo-wide", "tiny"), {"demo_wide"}), (("other/demo",), set())],
)
def test_weights_that_come_along_travel_for_the_jobs_that_use_them(models, travels, tmp_path, monkeypatch):
    for folder in ("demo", "demo_wide", "cards"):
        (tmp_path / "actors" / "models" / folder).mkdir(parents=True)
        (tmp_path / "actors" / "models" / folder / "weights.safetensors").write_bytes(b"x")
    (tmp_path / "actors" / "models" / "demo.py").write_text("")
    (tmp_path / "jobs").mkdir()
    monkeypatch.setattr(parcel.resources, "files", lambda package: tmp_path / package)
    places = {place for _, place in shipped(set(models))}
    assert {place.parts[2] for place in places if len(place.parts) == 4} == travels | {"cards"}
    assert Path("actors/models/demo.py") in places
