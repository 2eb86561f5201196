"""`ray-config.yaml` as Ray's launcher reads it, offline: its own schema, and what we promise of the cluster."""

import json
import re
import tomllib
from pathlib import Path

import pytest
import ray
import yaml
from packaging.requirements import Requirement

from commands import lightmill

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "ray-config.yaml").read_text()
GUIDE = (ROOT / "docs" / "cluster.md").read_text()
REPLACED = {
    "gcp": ("provider", "available_node_types"),
    "local": ("provider", "auth", "head_node_type", "available_node_types"),
}
"""What each of the alternatives in its comments takes the place of."""
PIN = re.compile(r"ray\[default\]==([\d.]+)")


class Plain(yaml.SafeDumper):
    """Without anchors, so that every value has a line of its own."""

    def ignore_aliases(self, data):
        return True


def alternatives():
    """The commented choices, as they are once they have taken their places."""
    comments = "\n".join(line[2:] for line in TEXT.partition("\n# GCP")[2].splitlines() if line.startswith("#"))
    config = yaml.safe_load(TEXT)
    for block in comments.split("\n\n")[1::2]:
        chosen = yaml.safe_load(block)
        replaced = REPLACED[chosen["provider"]["type"]]
        yield {**{key: value for key, value in config.items() if key not in replaced}, **chosen}


CONFIGS = [yaml.safe_load(TEXT), *alternatives()]
KINDS = [config["provider"]["type"] for config in CONFIGS]


@pytest.fixture
def config():
    return yaml.safe_load(TEXT)


def commands(config):
    return [command for key, value in config.items() if key.endswith("_commands") for command in value]


def test_there_is_a_choice_for_three_places():
    assert KINDS == ["aws", "gcp", "local"]


@pytest.mark.parametrize("config", CONFIGS, ids=KINDS)
def test_doctor_finds_nothing_in_it(config, tmp_path):
    path = tmp_path / "ray-config.yaml"
    path.write_text(yaml.safe_dump(config))
    said = lightmill("doctor", "cluster", path)
    assert (said.status, said.codes) == (0, []), said.err


def test_doctor_finds_nothing_in_the_file_itself():
    said = lightmill("doctor", "cluster", ROOT / "ray-config.yaml", "--json")
    (part,) = said.json["parts"]
    assert (said.status, part["problems"]) == (0, [])
    assert {"name": "gpu-spot", "value": "0 to 8, {'CPU': 8, 'GPU': 1}"} in part["facts"]


def test_spot_comes_first(config):
    types = config["available_node_types"]
    spot = {name for name, kind in types.items() if "InstanceMarketOptions" in kind["node_config"]}
    assert spot == {"gpu-spot"}
    assert types["gpu-spot"]["priority"] > types["gpu-on-demand"].get("priority", 0)
    assert max(types, key=lambda name: (types[name]["resources"]["GPU"], name)) == "gpu-spot"  # the older autoscaler


HEAD, SPOT = ("available_node_types", "head"), ("available_node_types", "gpu-spot")
START = ("head_start_ray_commands", 1)
FAULTS = [
    (("provider", "type"), "heroku", "LM1851", None),
    (("max_workers",), "many", "LM1851", "max_workers"),
    (("cluster_nmae",), "x", "LM1851", None),
    ((*HEAD, "resources"), {"CPU": 4}, "LM1852", "resources: {CPU: 4}"),
    (START, "RAY_AUTH_MODE=token ray start --head --dashboard-host=127.0.0.1", "LM1852", "ray start --head"),
    (("worker_start_ray_commands",), ["ray start --address=$RAY_HEAD_IP:6379"], "LM1853", "ray start --address"),
    (("file_mounts",), {"/home/ubuntu/x": "ray-config.yaml"}, "LM1853", "file_mounts"),
    (START, "RAY_AUTH_MODE=token ray start --head --num-cpus=0", "LM1854", "ray start --head"),
    (START, "RAY_AUTH_MODE=token ray start --head --num-cpus=0 --dashboard-host=0.0.0.0", "LM1854", "0.0.0.0"),
    ((*SPOT, "min_workers"), 2, "LM1855", "min_workers: 2"),
    ((*SPOT, "max_workers"), 80, "LM1855", "max_workers: 80"),
    ((*HEAD, "node_config", "InstanceMarketOptions"), {"MarketType": "spot"}, "LM1856", None),
    ((*SPOT, "node_config", "InstanceMarketOptions"), None, "LM1856", None),
    (("setup_commands",), ["export AWS_SECRET_ACCESS_KEY=abcdefgh"], "LM1857", "AWS_SECRET"),
    (("provider", "security_group"), None, "LM1857", "provider"),
    ((*SPOT, "node_config", "IamInstanceProfile"), None, "LM1857", None),
    ((*SPOT, "node_config", "IamInstanceProfile"), {"Name": "lightmill-head"}, "LM1857", "lightmill-head"),
    (("head_setup_commands",), ["pip install 'ray[default]==2.54.0'"], "LM1858", None),
    ((*SPOT, "node_config", "ImageId"), "ami-0123", "LM1858", None),
]


@pytest.mark.parametrize(("loc", "value", "code", "at"), FAULTS, ids=lambda value: str(value)[:40])
def test_doctor_finds_a_fault_and_the_line(config, tmp_path, loc, value, code, at):
    *way, last = loc
    within = config
    for step in way:
        within = within[step]
    if value is None:
        del within[last]
    else:
        within[last] = value
    path = tmp_path / "ray-config.yaml"
    path.write_text(yaml.dump(config, Dumper=Plain, sort_keys=False, default_flow_style=None, width=1000))
    said = lightmill("doctor", "cluster", path, "--json")
    (part,) = said.json["parts"]
    assert {problem["code"] for problem in part["problems"]} == {code}, said.err
    (problem, *_) = part["problems"]
    assert problem["help"]
    assert said.status == (3 if any(one["severity"] == "error" for one in part["problems"]) else 0)
    if at:
        places = [int(one["where"].rpartition(":")[2]) for one in part["problems"]]
        lines = path.read_text().splitlines()
        assert any(at in lines[place - 1] for place in places), (places, said.err)


def test_what_is_no_cluster_file(tmp_path):
    path = tmp_path / "x.yaml"
    for text, code in (("a: [", "LM1100"), ("- 1", "LM1100"), ("cluster_name: x", "LM1851")):
        path.write_text(text)
        said = lightmill("doctor", "cluster", path)
        assert (said.status, said.codes) == (3, [code])
    assert lightmill("doctor", "cluster", tmp_path / "none.yaml").codes == ["LM1104"]


def test_all_nodes_have_the_same_image_and_so_the_same_python(config):
    assert len({kind["node_config"]["ImageId"] for kind in config["available_node_types"].values()}) == 1


def test_the_token_comes_from_the_users_machine(config):
    assert config["file_mounts"]["/home/ubuntu/.ray/auth_token"] == "~/.ray/auth_token"


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
