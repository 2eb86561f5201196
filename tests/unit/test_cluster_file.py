"""`ray-config.yaml` as Ray's launcher reads it, offline: its own schema, and what we promise of the cluster."""

import json
import logging
import re
import tomllib
from copy import deepcopy
from pathlib import Path

import pytest
import ray
import yaml
from packaging.requirements import Requirement
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "ray-config.yaml").read_text()
GUIDE = (ROOT / "docs" / "cluster.md").read_text()
REPLACED = {
    "gcp": ("provider", "available_node_types"),
    "local": ("provider", "auth", "head_node_type", "available_node_types"),
}
"""What each of the alternatives in its comments takes the place of."""
PIN = re.compile(r"ray\[default\]==([\d.]+)")


def alternatives():
    """The commented choices, as they are once they have taken their places."""
    comments = "\n".join(line[2:] for line in TEXT.partition("\n# GCP")[2].splitlines() if line.startswith("#"))
    config = yaml.safe_load(TEXT)
    for block in comments.split("\n\n")[1::2]:
        chosen = yaml.safe_load(block)
        replaced = REPLACED[chosen["provider"]["type"]]
        yield {**{key: value for key, value in config.items() if key not in replaced}, **chosen}


CONFIGS = [yaml.safe_load(TEXT), *alternatives()]


@pytest.fixture
def config():
    return yaml.safe_load(TEXT)


def commands(config):
    return [command for key, value in config.items() if key.endswith("_commands") for command in value]


@pytest.mark.parametrize("config", CONFIGS, ids=[config["provider"]["type"] for config in CONFIGS])
def test_ray_takes_it(config, caplog):
    logging.getLogger("ray.autoscaler").setLevel(logging.ERROR)
    validate_config(prepare_config(deepcopy(config)))


def test_there_is_a_choice_for_three_places():
    assert [config["provider"]["type"] for config in CONFIGS] == ["aws", "gcp", "local"]


@pytest.mark.parametrize("config", CONFIGS[:2], ids=["aws", "gcp"])
def test_the_head_takes_no_work_and_workers_come_from_nothing(config):
    types = dict(config["available_node_types"])
    head = types.pop(config["head_node_type"])
    assert head["resources"] == {"CPU": 0, "GPU": 0}
    assert all("--num-cpus=0" in command for command in commands(config) if "--head" in command)
    assert types
    for kind in types.values():
        assert (kind["min_workers"], kind["resources"]["GPU"]) == (0, 1)
        assert 0 < kind["max_workers"] <= config["max_workers"]


def test_spot_comes_first_and_the_head_is_never_one(config):
    types = config["available_node_types"]
    spot = {name for name, kind in types.items() if "InstanceMarketOptions" in kind["node_config"]}
    assert spot == {"gpu-spot"}
    assert types["gpu-spot"]["priority"] > types["gpu-on-demand"].get("priority", 0)
    assert max(types, key=lambda name: (types[name]["resources"]["GPU"], name)) == "gpu-spot"  # the older autoscaler


def test_all_nodes_have_the_same_image_and_so_the_same_python(config):
    assert len({kind["node_config"]["ImageId"] for kind in config["available_node_types"].values()}) == 1


def test_nobody_else_can_reach_it(config):
    starts = [command for command in commands(config) if " start " in command]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token" in command for command in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]
    assert config["provider"]["security_group"] == {"GroupName": "lightmill"}
    assert "0.0.0.0" not in TEXT
    assert "::/0" not in TEXT


def test_no_secret_is_in_it(config):
    assert not re.search(r"AKIA|SECRET|PASSWORD|ACCESS_KEY|BEGIN .*KEY|[0-9a-f]{32}", TEXT)
    assert config["file_mounts"]["/home/ubuntu/.ray/auth_token"] == "~/.ray/auth_token"
    profiles = {
        name: kind["node_config"]["IamInstanceProfile"] for name, kind in config["available_node_types"].items()
    }
    assert profiles.pop("head") == {"Name": "lightmill-head"}
    assert all(profile == {"Name": "lightmill-worker"} for profile in profiles.values())


def test_its_pins_are_those_of_the_project(config):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (wanted,) = [requirement for text in project["dependencies"] if (requirement := Requirement(text)).name == "ray"]
    pins = set(PIN.findall(TEXT))
    assert pins == {ray.__version__}
    assert wanted.specifier.contains(ray.__version__)
    assert "lightmill[worker]" in config["worker_setup_commands"][0]
    assert "worker" in project["optional-dependencies"]


def test_what_is_copied_to_the_nodes_is_what_a_build_needs(config):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    folder = "/home/ubuntu/lightmill/"
    copied = {local for remote, local in config["file_mounts"].items() if remote.startswith(folder)}
    needed = {*project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"], "pyproject.toml"}
    needed |= {project["project"]["readme"], *project["project"]["license-files"]}
    assert copied == needed
    assert all((ROOT / local).exists() for local in copied)


def test_the_guide_grants_what_is_needed_and_no_more():
    policies = [json.loads(block) for block in re.findall(r"^ *```json\n(.*?)^ *```", GUIDE, re.DOTALL | re.MULTILINE)]
    assert len(policies) == 2
    worker, head = ({action for rule in policy["Statement"] for action in rule["Action"]} for policy in policies)
    assert worker == {"s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"}
    assert {"s3:DeleteObject", "s3:ListBucketMultipartUploads", "ec2:RunInstances", "iam:PassRole"} <= head
    assert not any(action.endswith("*") and action != "ec2:Describe*" for action in worker | head)
