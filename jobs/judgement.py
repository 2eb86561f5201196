"""Judgement: whether a cluster, as a preflight has found it, can do a job, and what is to be mended where it cannot."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from actors.errors import Problem
from actors.models.registry import find_card
from actors.settings import ModelSettings
from jobs.spec import JobSpec

Verdict = Literal["ok", "warning", "error"]
OLDEST = {"python": (3, 11), "ray": (2, 54), "torch": (2, 6), "diffusers": (0, 38), "transformers": (5, 0)}
OF_THE_MODEL = ("torch", "diffusers", "transformers")
BYTES_OF_A_PARAMETER = 2
"""In bfloat16 or float16."""
ROOM = 1.6
"""Beside the part that denoises: encoders, VAE, and what a batch takes. Below it a model may need smaller batches."""
LEAST_DISK = 5e9
TOLERATED_SECONDS = 60.0
REFUSED_SECONDS = 600.0
"""Stores refuse clocks that are 15 minutes off."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One line of the table."""

    check: str
    machine: str
    found: str
    verdict: Verdict = "ok"
    problem: Problem | None = None


def judge(spec: JobSpec, machines: Sequence[Mapping[str, Any]], here: Mapping[str, str]) -> Iterator[Judged]:
    """Everything that was found, in the order in which it is mended. `here`: versions where the job is sent from."""
    heard = [machine for machine in machines if machine["checkup"]]
    for machine in machines:
        if not machine["checkup"]:
            yield _bad("machine", machine, "no answer", "LM1503", machine["error"], "look at its logs, or take it away")
    working = _workplaces(spec, heard)
    for machine in heard:
        yield _version(machine, "python", here, "one of 3.11 or newer, the same on all machines")
        yield _version(machine, "ray", here, "install ray==" + here.get("ray", "2.60"))
    for library in OF_THE_MODEL if _needs_diffusers(spec) else ():
        for machine in working:
            yield _version(machine, library, {}, "pip install 'lightmill[worker]'")
        yield from _differences(library, working)
    yield from _gpus(spec, heard)
    for machine in working:
        yield from _room(spec, machine)
        yield _disk(spec, machine)
    for machine in heard:
        yield from _store(machine)


def _workplaces(spec: JobSpec, machines: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Where workers would be."""
    kind = "GPU" if any(_wants_gpu(lane) for lane in spec.lanes) else "CPU"
    return [machine for machine in machines if machine[kind] > 0]


def _wants_gpu(lane: ModelSettings) -> bool:
    card = find_card(lane.model)
    return lane.gpus_per_worker != 0 and not (card is not None and card.format == "built_in")


def _needs_diffusers(spec: JobSpec) -> bool:
    return any(lane.model.partition(":")[0] != "fake" for lane in spec.lanes)


def _version(machine: Mapping[str, Any], library: str, here: Mapping[str, str], remedy: str) -> Judged:
    checkup = machine["checkup"]
    version = checkup["python"] if library == "python" else checkup["versions"].get(library)
    if version is None:
        return _bad(library, machine, "not installed", "LM1502", f"{library} is not installed", remedy)
    if _numbers(version) < OLDEST[library]:
        oldest = ".".join(map(str, OLDEST[library]))
        return _bad(library, machine, version, "LM1502", f"{library} {version}, and {oldest} is the oldest", remedy)
    mine = here.get(library)
    if mine and _numbers(mine) != _numbers(version):
        message = f"{library} {version} there, {mine} here"
        return _bad(library, machine, version, "LM1502", message, "nothing, as long as it works", verdict="warning")
    return Judged(library, machine["address"], version)


def _differences(library: str, machines: Sequence[Mapping[str, Any]]) -> Iterator[Judged]:
    versions = sorted({machine["checkup"]["versions"].get(library, "none") for machine in machines})
    if len(versions) > 1:
        problem = Problem(
            "LM1502",
            f"machines have different {library}: pictures then differ within rounding",
            value=", ".join(versions),
            help="install one version everywhere",
            severity="warning",
        )
        yield Judged(library, "all", ", ".join(versions), "warning", problem)


def _gpus(spec: JobSpec, machines: Sequence[Mapping[str, Any]]) -> Iterator[Judged]:
    wanting = [lane for lane in spec.lanes if _wants_gpu(lane)]
    if not wanting:
        return
    there = sum(machine["GPU"] for machine in machines)
    least = max(lane.gpus_per_worker or 1.0 for lane in wanting)
    found = f"{there:g} up; a worker takes {least:g}"
    if there < least:
        message = "no GPU is up that a worker could have"
        remedy = "nothing where an autoscaler brings them; else add machines with GPUs, or `gpus_per_worker: 0`"
        problem = Problem("LM1503", message, value=found, help=remedy, severity="warning")
        yield Judged("gpus", "all", found, "warning", problem)
    else:
        yield Judged("gpus", "all", found)


def _room(spec: JobSpec, machine: Mapping[str, Any]) -> Iterator[Judged]:
    """Whether the largest model fits on the smallest GPU, as far as its card tells."""
    gpus, weights = machine["checkup"]["gpus"], _weights(spec)
    if not gpus or not weights:
        return
    smallest = min(gpus, key=lambda gpu: gpu["bytes"])
    found = f"{smallest['name']}, {smallest['bytes'] / 1e9:.1f} GB; weights of {weights / 1e9:.1f} GB"
    remedy = "a smaller model, a larger GPU, or a smaller batch_size"
    if smallest["bytes"] < weights:
        yield _bad("memory", machine, found, "LM1503", "the model's weights alone do not fit on the GPU", remedy)
    elif smallest["bytes"] < weights * ROOM:
        message = "the model fits on the GPU with little room for batches"
        yield _bad("memory", machine, found, "LM1503", message, remedy, verdict="warning")
    else:
        yield Judged("memory", machine["address"], found)


def _weights(spec: JobSpec) -> float:
    """Bytes of the largest model's denoising part; 0 where no card knows."""
    cards = [find_card(lane.model) for lane in spec.lanes]
    return max((card.parameters or 0) * 1e9 * BYTES_OF_A_PARAMETER if card else 0.0 for card in cards)


def _disk(spec: JobSpec, machine: Mapping[str, Any]) -> Judged:
    free, least = machine["checkup"]["disk_free"], max(LEAST_DISK, 2 * _weights(spec))
    found = f"{free / 1e9:.1f} GB free"
    if _needs_diffusers(spec) and free < least:
        message = f"less than the {least / 1e9:.0f} GB that fetching a model may take"
        return _bad("disk", machine, found, "LM1503", message, "make room where HF_HOME is, or set it elsewhere")
    return Judged("disk", machine["address"], found)


def _store(machine: Mapping[str, Any]) -> Iterator[Judged]:
    checkup = machine["checkup"]
    for problem in (Problem(**one) for one in checkup["problems"]):
        yield Judged("store", machine["address"], problem.code, "error", _at(machine, problem))
    if not checkup["problems"]:
        yield Judged("store", machine["address"], "read and written")
    if (ahead := checkup["clock_ahead"]) is not None:
        found = f"{ahead:+.0f} s against the store"
        message = f"the clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the store's"
        if abs(ahead) > TOLERATED_SECONDS:
            verdict: Verdict = "error" if abs(ahead) > REFUSED_SECONDS else "warning"
            yield _bad("clock", machine, found, "LM1304", message, "keep it set with NTP", verdict=verdict)
        else:
            yield Judged("clock", machine["address"], found)


def _bad(
    check: str,
    machine: Mapping[str, Any],
    found: str,
    code: str,
    message: str,
    remedy: str,
    *,
    verdict: Verdict = "error",
) -> Judged:
    severity: Literal["error", "warning"] = "warning" if verdict == "warning" else "error"
    problem = Problem(code, message, machine["address"], help=remedy, severity=severity)
    return Judged(check, machine["address"], found, verdict, problem)


def _at(machine: Mapping[str, Any], problem: Problem) -> Problem:
    return Problem(**{**problem.to_dict(), "where": machine["address"]})


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])
