"""A running cluster: whether it answers, whether it is of our versions, and who would do the work."""

import platform
from collections.abc import Iterator
from importlib import metadata

from actors.errors import ClusterError, Problem
from cluster.doctor.findings import Fact, Finding
from cluster.words import count


def examine(address: str) -> Iterator[Finding]:
    """What its head says of it. Starts nothing there."""
    from jobs.machines import look

    try:
        found = look(address)
    except ClusterError as error:
        yield from error.problems
        return
    yield Fact("ray", found.ray)
    yield Fact("python", found.python)
    ours = (metadata.version("ray"), platform.python_version())
    for what, here, there in zip(("Ray", "Python"), ours, (found.ray, found.python), strict=True):
        if here != there:
            said = f"the cluster has {what} {there}, this machine {here}; Ray wants the same, to the last digit"
            yield Problem("LM1848", said, where=address, help=f"use {what} {there} here, or {here} there")
    for one in found.machines:
        kind = "head" if one.is_head else "worker"
        yield Fact(kind, f"{one.name}, {count(round(one.cpus), 'CPU')}, {one.gpus:g} GPU")
        if one.is_head and len(found.machines) > 1 and one.cpus + one.gpus:
            said = "the head takes work: a worker that needs all its memory takes the driver and Ray down with it"
            action = "start it with --num-cpus=0 --num-gpus=0"
            yield Problem("LM1849", said, where=one.name, help=action, severity="warning")
