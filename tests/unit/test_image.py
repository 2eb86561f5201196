"""The image that readers build: without Docker, as far as its file says what it will be."""

import os
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from cluster.kubernetes.pods import USER

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker" / "Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PIN = r"^([\w.-]+)==([\w.]+)$"
PINS = dict(re.findall(PIN, (ROOT / "docker" / "constraints.txt").read_text(), re.MULTILINE))


def instructions():
    """Each with its words, lines that go on joined."""
    joined = re.sub(r"\\\n\s*", "", "\n".join(line for line in TEXT.splitlines() if not line.startswith("#")))
    return [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]


def of(name):
    return [rest for word, rest in instructions() if word == name]


def plain(name):
    return name.lower().replace("_", "-")


def test_it_has_only_instructions_that_docker_knows():
    assert {word for word, _ in instructions()} <= {"FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "CMD"}
    assert [rest.split(" AS ")[0] for rest in of("FROM")] == ["python:3.11-slim-bookworm"] * 2


def test_what_it_copies_is_there_and_is_what_a_build_needs():
    copied = [shlex.split(rest) for rest in of("COPY")]
    ours = {source for words in copied if not words[0].startswith("--from") for source in words[:-1]}
    assert [source for source in ours if not (ROOT / source).exists()] == []
    packages = set(PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    project = PROJECT["project"]
    assert ours == {*packages, "pyproject.toml", project["readme"], *project["license-files"], "docker/constraints.txt"}
    kept = {line[1:] for line in (ROOT / "docker/Dockerfile.dockerignore").read_text().splitlines() if line[0] == "!"}
    assert kept == ours


@pytest.mark.parametrize("command", of("RUN"))
def test_its_commands_are_shell(command):
    assert subprocess.run(["sh", "-n", "-c", command], check=False).returncode == 0


def test_every_library_is_pinned_to_one_that_the_project_allows():
    project = PROJECT["project"]
    for text in (*project["dependencies"], *project["optional-dependencies"]["worker"]):
        requirement = Requirement(text)
        assert requirement.specifier.contains(PINS[plain(requirement.name)]), requirement
    for name, version in re.findall(PIN, (ROOT / "constraints.txt").read_text(), re.MULTILINE):
        assert PINS[name] == version
    assert re.search(r"--constraint /etc/lightmill-constraints.txt .*lightmill\[worker\]", "\n".join(of("RUN")))


def test_its_ray_is_that_of_the_cluster_file():
    config = yaml.safe_load((ROOT / "ray-config.yaml").read_text())
    assert f"ray[default]=={PINS['ray']}" in str(config["head_setup_commands"])


def test_it_runs_as_the_user_that_the_manifests_name():
    assert of("USER") == [f"{USER}:{USER}"]
    assert f"--uid {USER} " in "\n".join(of("RUN"))
    assert instructions().index(["USER", f"{USER}:{USER}"]) > max(
        number for number, (word, _) in enumerate(instructions()) if word == "RUN"
    )


def test_no_secret_is_in_it():
    assert not re.search(r"(?i)secret|password|token|access_key", TEXT)


def docker_answers():
    return (
        bool(shutil.which("docker"))
        and not subprocess.run(["docker", "info"], capture_output=True, check=False).returncode
    )


@pytest.mark.skipif(not docker_answers() or "CI" not in os.environ, reason="needs Docker, and minutes")
def test_docker_takes_it():
    subprocess.run(["docker", "build", "--check", "--file", "docker/Dockerfile", "."], cwd=ROOT, check=True)
