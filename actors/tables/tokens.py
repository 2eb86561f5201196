"""Tokens of a prompt, counted as a model's text encoder will, where its tokenizer is at hand."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from actors.models.folder import widest_tokenizer


class Tokenizer(Protocol):
    """What is used of a tokenizer of transformers."""

    def __call__(self, text: list[str], *, truncation: bool, verbose: bool) -> Mapping[str, list[list[int]]]: ...


class TokenCounter:
    """One model's tokenizer. `limit` is what its text encoder sees of a prompt, its two marks included."""

    def __init__(self, tokenizer: Tokenizer, limit: int) -> None:
        self._tokenizer = tokenizer
        self.limit = limit

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, with the marks of beginning and end."""
        tokens = self._tokenizer(list(texts), truncation=False, verbose=False)["input_ids"]
        return [len(one) for one in tokens]

    def surely_fits(self, text: str) -> bool:
        """Whether the text is too short to exceed the limit: a token of ASCII is at least a character."""
        return len(text) <= self.limit - 2 and text.isascii()


def open_token_counter(model: str) -> TokenCounter | None:
    """The tokenizer of a local diffusers folder; None for other models, and where transformers is not installed."""
    folder, limit = widest_tokenizer(Path(model).expanduser())
    if limit is None or find_spec("transformers") is None:
        return None
    from transformers import AutoTokenizer

    return TokenCounter(AutoTokenizer.from_pretrained(str(folder), local_files_only=True), limit)
