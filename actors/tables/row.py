"""What a row of the table means: the one place where raw values become a `Prompt`, for the plan and for the workers."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from actors.errors import Problem
from actors.records import Prompt
from actors.settings import MAX_SIDE, Override
from actors.tables.columns import INPUTS, ColumnUse
from actors.tables.prompt_filter import PromptFilter, Undecided
from actors.tables.references import HELP, References
from actors.tables.values import as_text, clip, is_silent, real_number, strip_invisible, whole_number

MAX_PROMPT_BYTES = 64 << 10
MAX_ID_BYTES = 1 << 10
MAX_SEED = 2**63 - 1
MAX_STEPS = 1000
MAX_NOISE_LEVEL = 1000
"""Steps of the noise that a model is trained with. Each upscaler has its own bound below it."""
SIZE_MULTIPLE = 8
KEPT_CHARACTERS = 1000
"""Of a prompt that is too long: enough to find it again, not enough to swell the metadata."""
DECODER_BYTES_PER_PIXEL = 3072
"""What a VAE decoder holds at full size: about 256 channels of float32, three times over."""


class BadRow(Exception):
    """No image can be made of the row."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem


class RowParser:
    """Turns rows into prompts. Whatever a row holds, it becomes a `Prompt`, if need be one with a `problem`."""

    def __init__(
        self,
        use: ColumnUse,
        references: References,
        lanes: tuple[str, ...] = (),
        prompt_filter: PromptFilter | None = None,
    ) -> None:
        self.use = use
        self._references = references
        self.lanes = frozenset(lanes)
        self._filter = prompt_filter
        checks = CHECKS | dict.fromkeys(INPUTS, self._reference)
        self._steering = [(ours, theirs, checks[ours]) for ours, theirs in use.overrides.items() if ours in checks]
        self._sized = "width" in use.overrides or "height" in use.overrides

    def prompt(self, source_row: int, row: Mapping[str, Any]) -> Prompt:
        """The row as a prompt. `row` has every column of the table; what is missing counts as null."""
        use = self.use
        carried = {name: row.get(name) for name in use.carried}
        text, stripped = strip_invisible(as_text(row.get(use.prompt)) or "")
        row_id, problem = _row_id(source_row, row, use.id)
        values: dict[str, Any] = {}
        filtered = None
        try:
            _check_prompt(text, row.get(use.prompt), use.prompt)
            for ours, theirs, check in self._steering:
                value = row.get(theirs)
                if not is_silent(value):
                    values[ours] = check(value, theirs)
            if self._sized:
                _check_size(values.get("width"), values.get("height"), use)
            self._check_lane(row)
            if self._filter and not problem:
                filtered = self._filter.problem(text, use.prompt)
        except (BadRow, Undecided) as bad:
            problem, values = bad.problem, {}
            if len(text.encode()) > MAX_PROMPT_BYTES:
                text = clip(text, KEPT_CHARACTERS)
        return Prompt(
            source_row=source_row,
            id=row_id,
            text=text,
            columns=carried,
            problem=problem,
            filtered=filtered,
            stripped=stripped,
            **values,
        )

    def _reference(self, value: object, column: str) -> str:
        text = as_text(value) or ""
        if why := self._references.why_refused(text):
            raise _bad("LM1031", f"{column} {_shown(value)} is not read: {why}", column, value, HELP)
        return text

    def _check_lane(self, row: Mapping[str, Any]) -> None:
        column = self.use.overrides.get("model")
        name = row.get(column) if column and self.lanes else None
        if not is_silent(name) and lane_name(name) not in self.lanes:
            known = ", ".join(sorted(self.lanes))
            message = f"the job has no model {clip(str(name))!r}; it has {known}"
            raise BadRow(
                Problem(
                    "LM1013", message, column or "", clip(str(name)), help="add the model to the job, or mend the row"
                )
            )


def lane_name(value: object) -> str:
    """The lane that a value of the `model` column means."""
    return (as_text(value) or "").strip()


def _row_id(source_row: int, row: Mapping[str, Any], column: str | None) -> tuple[str, Problem | None]:
    """The row's id, its number where it has none. An id is data: any text goes, of any script."""
    value = row.get(column) if column else None
    if is_silent(value):
        return str(source_row), None
    text = (as_text(value) or "").encode("utf-8", "replace")
    if len(text) <= MAX_ID_BYTES:
        return text.decode(), None
    kept = text[:MAX_ID_BYTES].decode("utf-8", "ignore")
    message = f"the id has {len(text):,} bytes, more than {MAX_ID_BYTES:,}"
    return kept, Problem("LM1012", message, column or "", clip(kept), help="use a shorter id")


def _check_prompt(text: str, raw: object, column: str) -> None:
    if raw is None:
        raise BadRow(Problem("LM1004", "the prompt is null", column, help="fill the prompt in, or remove the row"))
    if not isinstance(raw, (str, int, float, bytes)):
        message = f"the prompt is a {type(raw).__name__}, not text"
        raise BadRow(
            Problem("LM1004", message, column, clip(text), help="name a column of text with --column prompt=NAME")
        )
    if not text or text.isspace():
        raise BadRow(Problem("LM1003", "the prompt is empty", column, help="fill the prompt in, or remove the row"))
    _check_length(text, column)


def _check_length(text: str, column: str) -> None:
    if len(text) * 4 <= MAX_PROMPT_BYTES:  # no character takes more than four bytes
        return
    size = len(text.encode())
    if size > MAX_PROMPT_BYTES:
        message = f"{column} has {size:,} bytes, more than {MAX_PROMPT_BYTES:,}"
        raise BadRow(Problem("LM1016", message, column, clip(text), help="shorten it; models read about 77 tokens"))


def _negative_prompt(value: object, column: str) -> str:
    text, _ = strip_invisible(as_text(value) or "")
    _check_length(text, column)
    return text


def _seed(value: object, column: str) -> int:
    number = whole_number(value)
    if number is None:
        message = f"seed {_shown(value)} is not an exact integer"
        raise _bad("LM1010", message, column, value, "write the seed out as digits")
    if not 0 <= number <= MAX_SEED:
        message = f"seed {_shown(value)} is not between 0 and 2^63-1"
        raise _bad("LM1010", message, column, value, "choose a seed in that range")
    return number


def _side(value: object, column: str) -> int:
    number = whole_number(value)
    if number is None:
        message = f"{column} {_shown(value)} is not a whole number of pixels"
        raise _bad("LM1006", message, column, value, "write 512, say")
    return number


def _steps(value: object, column: str) -> int:
    number = whole_number(value)
    if number is None or not 1 <= number <= MAX_STEPS:
        message = f"num_inference_steps {_shown(value)} is not a whole number from 1 to {MAX_STEPS}"
        raise _bad("LM1009", message, column, value, "20 to 50 suits most models")
    return number


def _guidance(value: object, column: str) -> float:
    number = real_number(value)
    if number is None or not 0 <= number < float("inf"):
        message = f"guidance_scale {_shown(value)} is not a number of 0 or more"
        raise _bad("LM1008", message, column, value, "7.5 suits most models, 0 turns guidance off")
    return number


def _strength(value: object, column: str) -> float:
    number = real_number(value)
    if number is None or not 0 < number <= 1:
        message = f"strength {_shown(value)} is not a number above 0 and up to 1"
        raise _bad("LM1032", message, column, value, "0.8 suits most models; 1 makes the whole picture anew")
    return number


def _noise_level(value: object, column: str) -> int:
    number = whole_number(value)
    if number is None or not 0 <= number <= MAX_NOISE_LEVEL:
        message = f"noise_level {_shown(value)} is not a whole number from 0 to {MAX_NOISE_LEVEL}"
        raise _bad("LM1033", message, column, value, "20 suits most pictures; more noise lets the model invent more")
    return number


def _check_size(width: int | None, height: int | None, use: ColumnUse) -> None:
    size = clip("x".join(str(side) for side in (width, height) if side is not None))
    sides: tuple[tuple[Override, int | None], ...] = (("width", width), ("height", height))
    for name, side in sides:
        if side is None:
            continue
        problem = None
        if not 0 < side <= MAX_SIDE:
            message = f"{size}: {name} must be from {SIZE_MULTIPLE} to {MAX_SIDE} pixels{_memory(width, height)}"
            problem = Problem("LM1007", message, help="use a size that the model was trained on, such as 512")
        elif side % SIZE_MULTIPLE:
            below = side // SIZE_MULTIPLE * SIZE_MULTIPLE
            nearest = f"{below} or {below + SIZE_MULTIPLE}" if below else str(SIZE_MULTIPLE)
            problem = Problem("LM1006", f"{size}: {name} must be a multiple of {SIZE_MULTIPLE}", help=f"use {nearest}")
        if problem:
            raise BadRow(replace(problem, where=use.overrides[name], value=clip(str(side))))


def _memory(width: int | None, height: int | None) -> str:
    """What one image of this size would take; a side that the row leaves out is taken to be as long as the other."""
    wide, high = width or height or 0, height or width or 0
    gib = wide * high * DECODER_BYTES_PER_PIXEL / 2**30
    if min(wide, high) <= 0 or not 1 <= gib < 1e6:
        return ""
    return f"; decoding one such image would take about {gib:,.0f} GiB"


def _bad(code: str, message: str, column: str, value: object, action: str) -> BadRow:
    return BadRow(Problem(code, message, column, _shown(value), action))


def _shown(value: object) -> str:
    return clip(as_text(value) or "")


CHECKS: dict[Override, Callable[[object, str], Any]] = {
    "negative_prompt": _negative_prompt,
    "seed": _seed,
    "width": _side,
    "height": _side,
    "num_inference_steps": _steps,
    "guidance_scale": _guidance,
    "strength": _strength,
    "noise_level": _noise_level,
}
"""Each takes the row's value and its column, and gives the value that steers, or raises `BadRow`."""
