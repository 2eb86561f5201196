"""RowTally: what a pass over the rows counts, in memory that does not grow with the table."""

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from actors.errors import Problem
from actors.records import Prompt
from actors.tables.tokens import TokenCounter
from actors.tables.values import clip
from jobs.check_report import Checked, CheckReport, SizeGroup

COMPARED_ROWS = 10_000_000
"""Rows whose ids and contents are compared, by eight bytes of hash each: 160 MB at most, 16 MB for a million."""
LISTED_SIZES = 1000


@dataclass(frozen=True, slots=True)
class ReadRow:
    """A row as the workers will read it."""

    prompt: Prompt
    model: str | None
    """Which model it names, where rows do."""
    place: str
    """`file:line` of text, `file:row` of Parquet."""

    @property
    def is_made(self) -> bool:
        """Whether an image is to be made of it."""
        return not (self.prompt.problem or self.prompt.filtered)


class RowTally:
    """Counts rows by what is wrong with them, by size, and by what they repeat."""

    def __init__(self, tokens: Sequence[TokenCounter], *, has_ids: bool) -> None:
        self.rows = 0
        self.bad_rows = 0
        self.filtered_rows = 0
        self._tokens = tokens
        self._has_ids = has_ids
        self._counts: Counter[str] = Counter()
        self._first: dict[str, Problem] = {}
        self._longest = 0
        self._sizes: Counter[tuple[int | None, int | None, int | None, float | None]] = Counter()
        self._other_sizes = 0
        self._ids = array("q")
        self._contents = array("q")

    def add(self, batch: Sequence[ReadRow]) -> None:
        """Count some rows."""
        for row in batch:
            self._add(row)
        self._count_tokens(batch)

    def repeated_ids(self) -> frozenset[int]:
        """Hashes that more than one id has: almost surely equal ids."""
        hashes, times = np.unique(_numbers(self._ids), return_counts=True)
        return frozenset(hashes[times > 1].tolist())

    def report(
        self, mode: Checked, table_rows: int, unused: Mapping[str, str], repeated: Mapping[str, Sequence[str]]
    ) -> CheckReport:
        """The counts as they now are. `repeated` are ids with the places of their rows."""
        sizes = (SizeGroup(*size, rows) for size, rows in self._sizes.most_common())
        problems = [self._summary(code) for code in sorted(self._counts)]
        return CheckReport(
            mode=mode,
            rows=table_rows,
            checked_rows=self.rows,
            bad_rows=self.bad_rows,
            filtered_rows=self.filtered_rows,
            problems=(*self._id_problems(repeated), *problems),
            repeated_rows=_repeats(self._contents),
            compared_rows=len(self._contents),
            sizes=tuple(sizes),
            other_sizes=self._other_sizes,
            unused_parameters=unused,
        )

    def _add(self, row: ReadRow) -> None:
        prompt = row.prompt
        self.rows += 1
        if len(self._contents) < COMPARED_ROWS:
            self._contents.append(
                hash(
                    (
                        *_parameters(prompt),
                        *_inputs(prompt),
                        prompt.text,
                        prompt.negative_prompt,
                        prompt.seed,
                        row.model,
                    )
                )
            )
            if self._has_ids:
                self._ids.append(hash(prompt.id))
        if prompt.stripped:
            self._note(row, _stripped(prompt))
        if prompt.problem:
            self.bad_rows += 1
            self._note(row, prompt.problem)
        elif prompt.filtered:
            self.filtered_rows += 1
            self._note(row, prompt.filtered)
        elif len(self._sizes) < LISTED_SIZES or _parameters(prompt) in self._sizes:
            self._sizes[_parameters(prompt)] += 1
        else:
            self._other_sizes += 1

    def _note(self, row: ReadRow, problem: Problem) -> None:
        self._counts[problem.code] += 1
        if problem.code not in self._first:
            where = f"{row.place}:{problem.where}" if problem.where else row.place
            self._first[problem.code] = replace(problem, where=where, value=clip(problem.value))

    def _count_tokens(self, batch: Sequence[ReadRow]) -> None:
        """A row is noted once, for the first of its models that cuts it off."""
        noted: set[str] = set()
        for counter in self._tokens:
            rows = [row for row in batch if row.is_made and row.model in (None, counter.model)]
            rows = [row for row in rows if row.place not in noted and not counter.surely_fits(row.prompt.text)]
            for row, tokens in zip(rows, counter.count([row.prompt.text for row in rows]), strict=True):
                if tokens > counter.limit:
                    noted.add(row.place)
                    self._longest = max(self._longest, tokens)
                    self._note(row, _over_limit(row.prompt, counter.limit))

    def _summary(self, code: str) -> Problem:
        count, first = self._counts[code], self._first[code]
        message = first.message if count == 1 else f"{count:,} rows; the first: {first.message}"
        if code == "LM1005":
            message += f" (the longest has {self._longest})"
        return replace(first, message=message, count=count)

    def _id_problems(self, repeated: Mapping[str, Sequence[str]]) -> list[Problem]:
        if not repeated:
            return []
        count = _repeats(self._ids)
        named = "; ".join(f'"{clip(id_, 40)}" at {" and ".join(places)}' for id_, places in repeated.items())
        message = f"{count:,} rows have the id of a row before them: {named}"
        action = "make ids unique, or name another column with --column id=NAME"
        return [Problem("LM1011", message, help=action, count=count)]


def _parameters(prompt: Prompt) -> tuple[int | None, int | None, int | None, float | None]:
    return prompt.width, prompt.height, prompt.num_inference_steps, prompt.guidance_scale


def _inputs(prompt: Prompt) -> tuple[str | None, str | None, str | None, float | None, int | None]:
    return prompt.image, prompt.mask_image, prompt.depth_map, prompt.strength, prompt.noise_level


def _stripped(prompt: Prompt) -> Problem:
    message = f"{prompt.stripped} invisible characters were taken out of the prompt"
    return Problem(
        "LM1015",
        message,
        value=prompt.text,
        help="nothing to do; clean the table to be rid of this",
        severity="warning",
    )


def _over_limit(prompt: Prompt, limit: int) -> Problem:
    message = f"the prompt exceeds {limit} tokens, and what is beyond them has no effect"
    return Problem("LM1005", message, value=prompt.text, help="say what matters first", severity="warning")


def _numbers(hashes: "array[int]") -> NDArray[np.int64]:
    return np.frombuffer(hashes, dtype=np.int64) if hashes else np.zeros(0, np.int64)


def _repeats(hashes: "array[int]") -> int:
    return len(hashes) - len(np.unique(_numbers(hashes)))
