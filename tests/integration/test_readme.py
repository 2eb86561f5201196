"""The README's run on S3 does what it says: its files, commands and Python are taken from the page, in its order."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from servers.rclone import RcloneServer

pytestmark = pytest.mark.xdist_group("readme")  # one process, so that the run is made once
README = Path(__file__).parents[2] / "README.md"
BLOCK = re.compile(r"^```(\w+) ?(\S*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
OF_THE_READER = re.compile(r"^export AWS_.*\n", re.MULTILINE)
DURATION = re.compile(r"\d+ h \d+ min|\d+ min \d+ s|[\d.]+ s\b")
NUMBER = re.compile(r"\d[\d,.]*")


def blocks():
    """Kind, file name and text of each fenced block that has a kind."""
    return BLOCK.findall(README.read_text())


def script():
    """All commands and all Python, as one script in the order of the page."""
    steps = []
    for kind, _, text in blocks():
        if kind == "sh":
            steps.append(OF_THE_READER.sub("", text))
        elif kind == "python":
            steps.append(f"python - <<'END'\n{text}END\n")
    return "set -euo pipefail\n" + "".join(steps)


def comparable(line):
    """Without what differs from run to run."""
    return " ".join(NUMBER.sub("#", DURATION.sub("#", line)).split())


@pytest.fixture(scope="module")
def said(rclone: RcloneServer, tmp_path_factory):
    """What the whole of it says."""
    folder = tmp_path_factory.mktemp("readme")
    for _, name, text in blocks():
        if name:
            (folder / name).write_text(text)
    with rclone.client(rclone.endpoint) as s3:
        s3.create_bucket(Bucket="datasets")
    environment = {
        **os.environ,
        **rclone.environment(rclone.endpoint),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HOME": str(folder / "hf"),
    }
    done = subprocess.run(
        ["bash", "-c", script()],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def test_the_commands_say_what_the_page_shows(said):
    lines = {comparable(line) for line in said.splitlines()}
    shown = [line for kind, _, text in blocks() if kind == "text" for line in text.splitlines()]
    assert shown
    assert [line for line in shown if comparable(line) not in lines] == []


def test_the_data_is_read_without_lightmill(said):
    assert "2 boats; the first has seed" in said
    assert re.search(r"scenery\W+ok\W+6", said)
    assert re.search(r"000000000005-0001-00 \(64, 64\) three orange diamonds", said)
    assert "12 images: ['webp', 'json', '__key__', '__url__']" in said


def test_every_variable_that_the_page_sets_is_one_that_a_store_needs(rclone: RcloneServer):
    named = set(re.findall(r"^export (\w+)=", README.read_text(), re.MULTILINE))
    assert named == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL_S3"}
    assert named <= rclone.environment(rclone.endpoint).keys()


def test_the_two_commands_are_targets_of_make():
    named = re.findall(r"^make (\w+)", README.read_text(), re.MULTILINE)
    targets = re.findall(r"^(\w+):", README.with_name("Makefile").read_text(), re.MULTILINE)
    assert named == ["demo", "test"]
    assert set(named) <= set(targets)
