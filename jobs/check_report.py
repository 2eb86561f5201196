"""CheckReport: what a look at the rows of a table has found, for `plan` to print and `run` to decide by."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from actors.errors import Problem

Checked = Literal["all", "sample", "none"]


@dataclass(frozen=True, slots=True)
class SizeGroup:
    """Rows that can share batches. None is what the row leaves to the model."""

    width: int | None
    height: int | None
    num_inference_steps: int | None
    guidance_scale: float | None
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """Counts over the checked rows, and each kind of problem once, with its first place."""

    mode: Checked
    rows: int
    checked_rows: int
    bad_rows: int
    """Rows of which no image can be made: promised all the same, and failed with their reason."""
    filtered_rows: int
    """Rows that the job's prompt filter leaves out: promised all the same, and no failures."""
    problems: tuple[Problem, ...]
    repeated_rows: int
    """Rows that ask for the prompt, seed and parameters of a row before them."""
    compared_rows: int
    """Rows that were compared for that, and for equal ids."""
    sizes: tuple[SizeGroup, ...]
    """The largest first."""
    other_sizes: int
    """Rows of sizes beyond those listed."""
    unused_parameters: Mapping[str, str]
    """Columns that look like parameters and are not named in `overrides`; and the parameter that each looks like."""

    @property
    def bad_share(self) -> float:
        """Of the checked rows: the whole table's share, or an estimate of it."""
        return self.bad_rows / self.checked_rows if self.checked_rows else 0.0

    @property
    def row_problems(self) -> tuple[Problem, ...]:
        """Those that make rows fail."""
        return tuple(problem for problem in self.problems if problem.severity == "error" and problem.code != "LM1011")

    def to_dict(self) -> dict[str, Any]:
        """As `plan --json` prints it."""
        return {**asdict(self), "bad_share": self.bad_share}
