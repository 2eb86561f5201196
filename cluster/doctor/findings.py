"""Findings: what an examination says, fact by fact and problem by problem."""

from dataclasses import dataclass

from actors.errors import Problem


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that is so."""

    name: str
    value: str


Finding = Fact | Problem
