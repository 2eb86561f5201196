"""Tokens of a prompt, counted as a model's text encoder will, where its tokenizer is at hand."""

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, cast

from actors.models.facts import ModelFacts
from actors.models.folder import missing_vocabulary

_log = logging.getLogger(__name__)


class Tokenizer(Protocol):
    """What is used of a tokenizer of transformers."""

    def __call__(self, text: list[str], *, truncation: bool, verbose: bool) -> Mapping[str, list[list[int]]]: ...


class TokenCounter:
    """One model's tokenizer. `limit` is what its text encoder sees of a prompt, its two marks included."""

    def __init__(self, model: str, folder: Path, limit: int) -> None:
        """`model`: as the job names it."""
        self.model = model
        self._folder = folder
        self.limit = limit

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, with the marks of beginning and end; 0 where the tokenizer needs what is only where the
        workers are."""
        if not texts or self._tokenizer is None:
            return [0] * len(texts)
        tokens = self._tokenizer(list(texts), truncation=False, verbose=False)["input_ids"]
        return [len(one) for one in tokens]

    def surely_fits(self, text: str) -> bool:
        """Whether the text is too short to exceed the limit: a token of ASCII is at least a character."""
        return len(text) <= self.limit - 2 and text.isascii()

    @cached_property
    def _tokenizer(self) -> Tokenizer | None:
        """Opened for the first text that may be too long: transformers takes seconds to import."""
        from transformers import AutoTokenizer

        try:
            return cast("Tokenizer", AutoTokenizer.from_pretrained(str(self._folder), local_files_only=True))
        except (ImportError, OSError, ValueError) as error:  # such as of one that needs sentencepiece
            _log.warning("prompts of %s are not counted: %s", self.model, error)
            return None


def open_token_counter(facts: ModelFacts) -> TokenCounter | None:
    """Of a model whose vocabulary is on this machine; None for others, and where transformers is not installed."""
    folder = facts.vocabulary or facts.tokenizer
    if folder is None or facts.prompt_tokens is None or missing_vocabulary(folder) or find_spec("transformers") is None:
        return None
    return TokenCounter(facts.model, folder, facts.prompt_tokens)
