"""Tokenizers of every kind without a vocabulary of words: letters and bytes are their tokens, so any text has some."""

import json
import string
import tempfile
from pathlib import Path

import transformers

CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    "{% if not enable_thinking | default(true) %}<think>\n\n</think>\n\n{% endif %}"
)
"""How Qwen3 wants a prompt to be wrapped."""
MARKS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
T5_SIZE = GEMMA_SIZE = 128
"""Rows of the embeddings: more than there are tokens."""
QWEN_SIZE = 264
CLIP_SIZE = 514


def t5(length):
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(letter, -3.0) for letter in string.printable.strip()]
    tokenizer = transformers.T5Tokenizer(vocab=pieces, extra_ids=0)
    tokenizer.model_max_length = length
    return tokenizer


def qwen():
    vocabulary = {symbol: number for number, symbol in enumerate(_byte_symbols())}
    vocabulary |= {mark: 256 + number for number, mark in enumerate(MARKS)}
    tokenizer = transformers.Qwen2Tokenizer(vocab=vocabulary, merges=[], additional_special_tokens=list(MARKS[1:]))
    tokenizer.chat_template = CHAT
    tokenizer.model_max_length = 131_072
    return tokenizer


def gemma():
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", "\n", *string.printable.strip()]
    tokenizer = transformers.GemmaTokenizer(vocab={token: number for number, token in enumerate(tokens)}, merges=[])
    tokenizer.model_max_length = 8192
    return tokenizer


def clip(settings):
    """CLIP's, with the settings of a real model's tokenizer."""
    symbols = [*_byte_symbols(), *(symbol + "</w>" for symbol in _byte_symbols()), "<|startoftext|>", "<|endoftext|>"]
    assert len(symbols) == CLIP_SIZE
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        vocabulary = {symbol: number for number, symbol in enumerate(symbols)}
        (folder / "vocab.json").write_text(json.dumps(vocabulary))
        (folder / "merges.txt").write_text("#version: 0.2\n")
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        return transformers.CLIPTokenizer.from_pretrained(name, local_files_only=True)


def _byte_symbols():
    """A printable letter for each byte, as GPT-2 and CLIP have them."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    symbols = {byte: chr(byte) for byte in printable} | {byte: chr(256 + number) for number, byte in enumerate(others)}
    # From "!" on, as in CLIP's own, where it is token 0 and fills up what is too short.
    return [symbols[byte] for byte in (*printable, *others)]
