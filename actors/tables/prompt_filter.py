"""PromptFilter: which prompts a job leaves out, and why. Such a row is promised, and becomes a filtered one.

Only the prompt is looked at: a negative prompt names what is to be kept away, which is just what lists like these hold.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence

import regex

from actors.errors import InputError, NotFound, Problem
from actors.settings import FilterSettings, StorageSettings
from actors.tables.files import absolute, open_file
from actors.tables.values import clip

MOST_BYTES = 1 << 20
"""Of a block list: some 100,000 words. The manifest keeps them, so that every later run filters by the same."""
PATIENCE_SECONDS = 1.0
"""For one pattern on one prompt. There are patterns that take longer than the universe for 40 characters, and the
prompts may be anybody's."""

UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"  # kana, Han
)
"""Scripts that set no spaces between words: each character counts as a word, so that entries are found anywhere."""
WORD = re.compile(f"[{UNSPACED}]|(?:(?![{UNSPACED}_])\\w)+")

Words = tuple[str, ...]


class Undecided(Exception):
    """A pattern took too long for the prompt: whether it is caught is not known, and on another machine it may be."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem


class PromptFilter:
    """A job's filter, ready for use. Finding an entry takes as long for a list of ten as for one of ten thousand."""

    def __init__(self, settings: FilterSettings, blocked: Iterable[str] = ()) -> None:
        self._most = settings.max_length
        self._patterns = [regex.compile(pattern) for pattern in settings.patterns]
        self._blocked = {words: entry for entry in blocked if (words := _words(entry))}
        self._lengths: dict[str, set[int]] = {}
        for words in self._blocked:
            self._lengths.setdefault(words[0], set()).add(len(words))

    def problem(self, prompt: str, column: str) -> Problem | None:
        """Why the prompt is left out; None where it is not. Raises `Undecided` (LM1616)."""
        reason = self._reason(prompt)
        if reason is None:
            return None
        return Problem("LM1030", reason, column, clip(prompt), "nothing to do: the job asks for it", severity="note")

    def _reason(self, prompt: str) -> str | None:
        if self._most is not None and len(prompt) > self._most:
            return f"the prompt has {len(prompt):,} characters, more than {self._most:,}"
        if self._blocked and (entry := self._entry_in(_words(prompt))):
            return f'the prompt has "{clip(entry)}", which is on the block list'
        slow = None
        for pattern in self._patterns:
            try:
                if pattern.search(prompt, timeout=PATIENCE_SECONDS):
                    return f"the prompt matches the pattern {clip(pattern.pattern)}"
            except TimeoutError:
                slow = slow or pattern.pattern
        if slow is not None:
            message = f"the pattern {clip(slow)} takes more than {PATIENCE_SECONDS:g} s for the prompt"
            help_ = "`lightmill retry OUT` tries again; a pattern without nested repeats takes no time"
            raise Undecided(Problem("LM1616", message, value=clip(prompt), help=help_))
        return None

    def _entry_in(self, words: Words) -> str | None:
        for start, word in enumerate(words):
            for length in self._lengths.get(word, ()):
                if entry := self._blocked.get(words[start : start + length]):
                    return entry
        return None


def read_block_list(settings: FilterSettings, storage: StorageSettings) -> tuple[str, ...]:
    """The entries of the list that the settings name, sorted: comments, order and repetitions do not make another list.

    Raises `InputError` (LM1107) where there is no such file, it is none of UTF-8, or an entry would catch nothing; and
    `StorageError` where the store cannot be asked.
    """
    if settings.block_list is None:
        return ()
    url = absolute(settings.block_list)
    try:
        with open_file(url, storage) as file:
            data = file.read(MOST_BYTES + 1)
    except (InputError, NotFound) as error:
        raise InputError(_unreadable(url, error.problems[0].message)) from error
    if len(data) > MOST_BYTES:
        raise InputError(_unreadable(url, f"it has more than {MOST_BYTES:,} bytes"))
    try:
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(_unreadable(url, "it is not UTF-8")) from error
    entries = [(number, entry) for number, line in enumerate(lines, 1) if (entry := line.partition("#")[0].strip())]
    if wordless := [_wordless(f"{url}:{number}", entry) for number, entry in entries if not _words(entry)]:
        raise InputError(*wordless)
    return tuple(sorted({entry for _, entry in entries}))


def block_list_sha256(entries: Sequence[str]) -> str | None:
    """What a list is known by; None for no list."""
    return hashlib.sha256("\n".join(entries).encode()).hexdigest() if entries else None


def _words(text: str) -> Words:
    """What is compared: whole words, whatever their case, their width and the signs between them."""
    return tuple(WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def _wordless(place: str, entry: str) -> Problem:
    help_ = "what is no word can be one of `patterns`; a line between others begins with #"
    return Problem("LM1107", f'the entry "{clip(entry)}" has no word, and would catch nothing', where=place, help=help_)


def _unreadable(url: str, why: str) -> Problem:
    return Problem(
        "LM1107", f"the block list cannot be read: {why}", where=url, help="name a text file, one entry a line"
    )
