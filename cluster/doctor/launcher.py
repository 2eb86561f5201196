"""A file of Ray's cluster launcher: what Ray has against it, and what we have. Nothing is asked of any cloud."""

import io
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from actors.errors import InputError, Problem
from actors.faults import line, not_yaml
from cluster.doctor.findings import Fact, Finding

Config = Mapping[str, Any]
SECRET = re.compile(r"AKIA[0-9A-Z]{12}|(?i:secret_access_key|password|auth_token)\s*[:=]\s*['\"]?\w|BEGIN [A-Z ]*KEY")
STARTS = re.compile(r"\bray start\b")
EVERYONE = re.compile(r"0\.0\.0\.0|::/0")
PIN = re.compile(r"\bray(?:\[[\w,]+\])?==([\w.]+)")
SPOT = re.compile(r"InstanceMarketOptions|preemptible|spotModel|provisioningModel")


@dataclass(frozen=True, slots=True)
class ClusterFile:
    """The file as it was read: its text, its values, and where each of them stands."""

    path: Path
    text: str
    config: Config
    root: yaml.Node | None

    @classmethod
    def read(cls, path: Path) -> "ClusterFile":
        """Raises `InputError` where there is no such file, or it is no YAML."""
        try:
            text = path.read_text(encoding="utf-8")
            root, config = yaml.compose(text, Loader=yaml.SafeLoader), yaml.safe_load(text)
        except (OSError, UnicodeDecodeError) as error:
            said, action = f"the file cannot be read: {error}", "name a cluster's YAML file"
            raise InputError(Problem("LM1104", said, where=str(path), help=action)) from None
        except yaml.YAMLError as error:
            said, where = not_yaml(error, str(path))
            raise InputError(Problem("LM1100", f"not YAML: {said}", where=where, help="mend that line")) from None
        if not isinstance(config, dict):
            raise InputError(Problem("LM1100", "not a mapping", where=str(path), help="begin with `cluster_name: ...`"))
        return cls(path, text, config, root)

    def at(self, *loc: str | int) -> str:
        """Where a field stands."""
        return f"{self.path}{line(self.root, loc)}"

    @property
    def kinds(self) -> dict[str, Config]:
        """The types of machines, by name."""
        return dict(self.config.get("available_node_types") or {})

    def starts(self) -> Iterator[tuple[str, int, str]]:
        """The commands that start Ray: the field, the place in it, the command."""
        for field in ("head_start_ray_commands", "worker_start_ray_commands"):
            for number, command in enumerate(self.config.get(field) or ()):
                if STARTS.search(command):
                    yield field, number, command


def examine(path: Path) -> Iterator[Finding]:
    """Ray's schema first: what it refuses need not be looked at any further."""
    file = ClusterFile.read(path)
    refusal = _refusal(file)
    if refusal is not None:
        yield refusal
        return
    yield Fact("cluster", f"{file.config['cluster_name']} on {file.config['provider']['type']}")
    for name, kind in file.kinds.items():
        few, most = kind.get("min_workers", 0), kind.get("max_workers", "any")
        number = "head" if name == file.config.get("head_node_type") else f"{few} to {most}"
        yield Fact(name, f"{number}, {dict(kind.get('resources', {}))}")
    for check in (_head_takes_no_work, _token, _loopback, _scales, _spot, _rights, _one_version):
        yield from check(file)


def _refusal(file: ClusterFile) -> Problem | None:
    import jsonschema
    from ray.autoscaler._private.util import prepare_config, validate_config

    logging.getLogger("ray.autoscaler").setLevel(logging.ERROR)
    try:
        # It talks of mounts that are files, which is what ours are meant to be.
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            validate_config(prepare_config(deepcopy(dict(file.config))))
    except jsonschema.ValidationError as error:
        return Problem(
            "LM1851", f"Ray refuses it: {error.message}", where=file.at(*error.path), help="see ray up --help"
        )
    except Exception as error:  # noqa: BLE001  whatever its code stumbles upon: the file is at fault, not we
        said = f"{type(error).__name__}: {error}"
        return Problem("LM1851", f"Ray refuses it: {said}", where=str(file.path), help="correct what it names")
    return None


def _head_takes_no_work(file: ClusterFile) -> Iterator[Problem]:
    said = "the head takes work: a worker that needs all its memory takes the driver and Ray down with it"
    head = file.config.get("head_node_type")
    if head is not None:
        resources = file.kinds.get(head, {}).get("resources", {})
        if resources.get("CPU") != 0 or resources.get("GPU", 0) != 0:
            where = file.at("available_node_types", head, "resources")
            yield Problem("LM1852", said, where=where, value=str(resources), help="resources: {CPU: 0, GPU: 0}")
    for field, number, command in file.starts():
        if "--head" in command and "--num-cpus=0" not in command:
            yield Problem("LM1852", said, where=file.at(field, number), help="start the head with --num-cpus=0")


def _token(file: ClusterFile) -> Iterator[Problem]:
    said = "whoever reaches a port of this cluster can run code on it: Ray is started without a token"
    starts = list(file.starts())
    for field, number, command in starts:
        if "RAY_AUTH_MODE=token" not in command:
            where = file.at(field, number)
            yield Problem("LM1853", said, where=where, help="RAY_AUTH_MODE=token before `ray start`, on every machine")
    if not starts:
        yield Problem("LM1853", said, where=str(file.path), help="write *_start_ray_commands with RAY_AUTH_MODE=token")
    elif not any(remote.endswith(".ray/auth_token") for remote in file.config.get("file_mounts") or ()):
        where, action = file.at("file_mounts"), "file_mounts: {/home/USER/.ray/auth_token: ~/.ray/auth_token}"
        yield Problem("LM1853", "no machine is given the cluster's token", where=where, help=action)


def _loopback(file: ClusterFile) -> Iterator[Problem]:
    for field, number, command in file.starts():
        if "--head" in command and "--dashboard-host=127.0.0.1" not in command.replace("localhost", "127.0.0.1"):
            said, action = "the dashboard may listen on more than the loopback", "--dashboard-host=127.0.0.1"
            yield Problem(
                "LM1854", said, where=file.at(field, number), help=f"{action}; `ray dashboard` makes a tunnel"
            )
    for number, text in enumerate(file.text.splitlines(), 1):
        if EVERYONE.search(text.partition("#")[0]):
            said, action = "open to the whole world", "name the addresses that may come in"
            yield Problem("LM1854", said, where=f"{file.path}:{number}", value=text.strip(), help=action)


def _scales(file: ClusterFile) -> Iterator[Problem]:
    for name, kind in file.kinds.items():
        if name != file.config.get("head_node_type") and kind.get("min_workers", 0) and not _is_ours(file):
            said, action = f"{name} never goes to zero: it costs while no job runs", "min_workers: 0"
            where = file.at("available_node_types", name, "min_workers")
            yield Problem("LM1855", said, where=where, value=str(kind["min_workers"]), help=action, severity="warning")
        if kind.get("max_workers", 0) > file.config.get("max_workers", 2):
            said = f"{name} may have more machines than the cluster, whose max_workers is the lower one"
            where = file.at("available_node_types", name, "max_workers")
            yield Problem("LM1855", said, where=where, help="raise the cluster's max_workers", severity="warning")


def _spot(file: ClusterFile) -> Iterator[Problem]:
    head = file.config.get("head_node_type")
    kinds = file.kinds
    if head and SPOT.search(str(kinds.get(head, {}).get("node_config", {}))):
        said, action = "the head is a spot machine: when it is taken away, the job and its cluster are", "on-demand"
        where = file.at("available_node_types", head, "node_config")
        yield Problem("LM1856", said, where=where, help=f"make the head {action}")
    others = [kind for name, kind in kinds.items() if name != head]
    if others and not _is_ours(file) and not any(SPOT.search(str(kind.get("node_config", {}))) for kind in others):
        said = "no worker is a spot machine, which costs a third; a lost one costs at most two shards"
        where = file.at("available_node_types")
        yield Problem("LM1856", said, where=where, help="add a type with spot machines", severity="note")


def _rights(file: ClusterFile) -> Iterator[Problem]:
    for number, text in enumerate(file.text.splitlines(), 1):
        if SECRET.search(text):
            said, action = (
                "a secret in a file that is copied to machines and into repositories",
                "use instance profiles",
            )
            yield Problem("LM1857", said, where=f"{file.path}:{number}", help=f"take it out, and {action} or ~/.ray")
    if file.config["provider"]["type"] != "aws":
        return
    if not file.config["provider"].get("security_group"):
        said, action = (
            "Ray would make a security group that lets the whole world knock at SSH",
            "provider.security_group",
        )
        yield Problem(
            "LM1857", said, where=file.at("provider"), help=f"name one of yours: {action}: {{GroupName: ...}}"
        )
    profiles: dict[str, str] = {}
    for name, kind in file.kinds.items():
        profile, where = kind["node_config"].get("IamInstanceProfile"), file.at("available_node_types", name)
        if profile is None:
            said, action = f"{name} has no instance profile: it cannot reach the bucket without keys", "docs/cluster.md"
            yield Problem("LM1857", said, where=where, help=f"IamInstanceProfile: {{Name: ...}}, as in {action}")
        else:
            profiles[name] = str(profile)
    head = profiles.pop(str(file.config.get("head_node_type")), None)
    for name, profile in profiles.items():
        if profile == head:
            said = f"{name} has the head's rights: what runs on it can start and end machines"
            where = file.at("available_node_types", name, "node_config", "IamInstanceProfile")
            yield Problem("LM1857", said, where=where, help="a profile of its own, for the bucket alone")


def _one_version(file: ClusterFile) -> Iterator[Problem]:
    pins = sorted(set(PIN.findall(file.text)))
    if len(pins) > 1:
        said, action = "machines have different versions of Ray, and would not find together", "pin one version"
        yield Problem("LM1858", said, where=str(file.path), value=", ".join(pins), help=action)
    images = {
        str(kind["node_config"].get("ImageId")) for kind in file.kinds.values() if "ImageId" in kind["node_config"]
    }
    if len(images) > 1:
        said, action = (
            "machines have different images, and so perhaps another Python, to the patch",
            "one ImageId for all",
        )
        where = file.at("available_node_types")
        yield Problem("LM1858", said, where=where, value=", ".join(sorted(images)), help=action, severity="warning")


def _is_ours(file: ClusterFile) -> bool:
    """Machines of one's own run all the time."""
    return bool(file.config["provider"]["type"] == "local")
