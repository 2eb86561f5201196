"""The demo's own CLIP vocabulary: each word of the captions is one token, and any other text is spelled in bytes."""

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

from training.model import TOKENS

START, END = "<|startoftext|>", "<|endoftext|>"
_WORD_END = "</w>"


def write_tokenizer(folder: Path, words: list[str]) -> int:
    """Write it as diffusers and transformers read it, and return the size of the vocabulary."""
    merges = _merges(words)
    letters = _byte_letters()
    tokens = [*letters, *(letter + _WORD_END for letter in letters), *map("".join, merges), START, END]
    folder.mkdir(parents=True, exist_ok=True)
    ids = {token: number for number, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(ids, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": TOKENS,
        "bos_token": START,
        "eos_token": END,
        "unk_token": END,
        "pad_token": END,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    return len(tokens)


def _merges(words: list[str]) -> list[tuple[str, str]]:
    """Byte pairs to join, the most frequent first, until every word is whole."""
    pieces = [[*word[:-1], word[-1] + _WORD_END] for word in words]
    merges: list[tuple[str, str]] = []
    while pairs := Counter(pair for word in pieces for pair in pairwise(word)):
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        pieces = [_join(word, best) for word in pieces]
    return merges


def _join(word: list[str], pair: tuple[str, str]) -> list[str]:
    joined: list[str] = []
    for piece in word:
        if joined and (joined[-1], piece) == pair:
            joined[-1] += piece
        else:
            joined.append(piece)
    return joined


def _byte_letters() -> list[str]:
    """One printable character for each byte, in the order that GPT-2 gave them and CLIP kept."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    rest = [byte for byte in range(256) if byte not in plain]
    return [chr(byte) for byte in plain] + [chr(256 + number) for number in range(len(rest))]
