"""Slot: one planned run of a schedule. Its name and its time say which it is, whoever asks for it, and how often."""

from dataclasses import dataclass
from datetime import UTC, datetime

DATE, SLOT = "{date}", "{slot}"
TEMPLATES = (DATE, SLOT)
"""What may stand in a job's `output` and `prompts`."""


@dataclass(frozen=True, slots=True)
class Slot:
    """`planned` is in the zone of the schedule."""

    name: str
    planned: datetime

    @property
    def key(self) -> str:
        """`20261128T0100Z`: in UTC, so that the hour that clocks show twice makes two."""
        return f"{self.planned.astimezone(UTC):%Y%m%dT%H%MZ}"

    def fill(self, text: str) -> str:
        """The text with the slot's own words in the place of `{date}` and `{slot}`."""
        return text.replace(DATE, f"{self.planned:%Y-%m-%d}").replace(SLOT, self.key)

    def __str__(self) -> str:
        return f"{self.name} of {self.planned:%Y-%m-%d %H:%M %Z}"


def has_template(text: str) -> bool:
    """Whether a slot would change it."""
    return any(template in text for template in TEMPLATES)
