"""Conditioning: prompts of any length and with weights, as embeddings (the only user of compel).

compel cuts a prompt into chunks of 77 tokens, at the end of a sentence where it can, and moves what a text encoder made
of each token by its weight. How weights are written is read here: compel's own grammar takes minutes to read twenty
opening brackets, and does not know the form that people use.

Every prompt is encoded alone, so what it comes to is the same in any company.
"""

import copy
import functools
import re
from collections.abc import Sequence
from itertools import zip_longest

import diffusers
import torch
import transformers

from actors.errors import InputError, Problem
from actors.records import ImageRequest

WEIGHT = re.compile(r"\(([^()]+):\s*([0-9]{1,2}(?:\.[0-9]{1,4})?)\s*\)")
"""`(red shoes:1.2)`. Whatever is not of this form is text like any other."""
KEPT_TEXTS = 16
"""Of which the embeddings are kept: a job's negative prompt, and a prompt of several images."""
_Embedded = tuple[list[torch.Tensor], torch.Tensor | None]
"""Chunks of `[1, 77, width]`, and what SDXL wants of a text as a whole, which knows no weights."""


def fragments(text: str) -> list[tuple[str, float]]:
    """The text in pieces, each with its weight."""
    pieces = WEIGHT.split(text)  # text, words, weight, text, words, weight, ..., text
    plain = [(said, 1.0) for said in pieces[::3]]
    weighted = [(said, float(weight)) for said, weight in zip(pieces[1::3], pieces[2::3], strict=True)]
    in_turn = [piece for pair in zip_longest(plain, weighted) for piece in pair if piece]
    return [(said, weight) for said, weight in in_turn if said.strip()] or [("", 1.0)]


class Conditioning:
    """For one pipeline of Stable Diffusion 1 or 2, or SDXL."""

    def __init__(self, pipeline: diffusers.DiffusionPipeline, clip_skip: int | None) -> None:
        """Raises `InputError` (LM1222) where compel is not installed."""
        try:
            from compel import Compel, EmbeddingsProvider, ReturnedEmbeddingsType
        except ImportError as error:
            message = f"prompt_encoding: weighted needs the package compel: {error}"
            action = "install it where the workers run: `pip install 'lightmill[worker]'`"
            raise InputError(Problem("LM1222", message, where="prompt_encoding", help=action)) from error
        self._pipeline = pipeline
        self._is_xl = hasattr(pipeline, "text_encoder_2")
        last = ReturnedEmbeddingsType.LAST_HIDDEN_STATES_NORMALIZED
        if self._is_xl:
            last = ReturnedEmbeddingsType.PENULTIMATE_HIDDEN_STATES_NON_NORMALIZED
        skipped = ReturnedEmbeddingsType.PENULTIMATE_HIDDEN_STATES_NORMALIZED if clip_skip else last
        pairs = [
            (getattr(pipeline, f"tokenizer{n}", None), getattr(pipeline, f"text_encoder{n}", None)) for n in ("", "_2")
        ]
        self._encoders = {
            negative: [
                Compel(
                    tokenizer=tokenizer,
                    text_encoder=encoder,
                    truncate_long_prompts=False,
                    returned_embeddings_type=last if negative else skipped,
                )
                for tokenizer, encoder in pairs
                if encoder is not None
            ]
            for negative in (False, True)
        }
        """As in diffusers, clip_skip acts on the prompt alone."""
        self._embedded = functools.lru_cache(KEPT_TEXTS)(self._embed)
        first = self._encoders[False][0].conditioning_provider
        # With a tokenizer of its own: two threads that use one at a time raise.
        tokenizer = copy.deepcopy(first.tokenizer)
        self._counter = EmbeddingsProvider(tokenizer, first.text_encoder, truncate=False, device="cpu")
        self._counted = functools.lru_cache(KEPT_TEXTS)(self._count)

    def chunks(self, request: ImageRequest) -> int:
        """Of its prompt or of its negative prompt, whichever has more: a pipeline takes both of one length. Nothing is
        encoded for that, and another thread than the device's may ask."""
        return max(map(self._counted, (request.prompt.text, request.negative_prompt)))

    def arguments(self, requests: Sequence[ImageRequest]) -> dict[str, torch.Tensor]:
        """Of a batch, in the place of `prompt` and `negative_prompt`. All have as many chunks: padded to the longest of
        its neighbours, a picture would be another one in other company."""
        made = [self._embedded(request.prompt.text, False) for request in requests]
        against = [self._embedded(request.negative_prompt, True) for request in requests]
        chunks = max(len(embedded) for embedded, _ in made + against)
        told = self._stacked(made, chunks, negative=False)
        zeroed = self._is_xl and self._pipeline.config.get("force_zeros_for_empty_prompt")
        if zeroed and not any(request.negative_prompt for request in requests):
            return told  # SDXL then takes zeros
        return {
            **told,
            **{f"negative_{name}": it for name, it in self._stacked(against, chunks, negative=True).items()},
        }

    def _stacked(self, embedded: Sequence[_Embedded], chunks: int, *, negative: bool) -> dict[str, torch.Tensor]:
        nothing = self._embedded("", negative)[0]
        rows = [torch.cat([*own, *nothing * (chunks - len(own))], dim=1) for own, _ in embedded]
        pooled = (
            {"pooled_prompt_embeds": torch.cat([own for _, own in embedded if own is not None])} if self._is_xl else {}
        )
        return {"prompt_embeds": torch.cat(rows), **pooled}

    def _count(self, text: str) -> int:
        words, weights = zip(*self._words(text, self._counter.tokenizer), strict=True)
        tokens, _, _ = self._counter.get_token_ids_and_expand_weights(list(words), list(weights), device="cpu")
        return len(tokens) // int(self._counter.max_token_count)

    def _words(self, text: str, tokenizer: transformers.PreTrainedTokenizerBase) -> list[tuple[str, float]]:
        return [(self._pipeline.maybe_convert_prompt(said, tokenizer), weight) for said, weight in fragments(text)]

    def _embed(self, text: str, negative: bool) -> _Embedded:
        from compel.prompt_parser import FlattenedPrompt

        encoders = self._encoders[negative]
        told = []
        for encoder in encoders:
            tokenizer = encoder.conditioning_provider.tokenizer
            words = FlattenedPrompt(self._words(text, tokenizer))
            (embedded, _), _ = encoder.build_conditioning_tensor_for_prompt_object(words)
            told.append(embedded)
        length = encoders[0].conditioning_provider.max_token_count
        pooled = None
        if self._is_xl:
            last = encoders[-1].conditioning_provider
            whole = self._pipeline.maybe_convert_prompt(WEIGHT.sub(r"\1", text), last.tokenizer)
            pooled = last.get_pooled_embeddings([whole])
        return list(torch.split(torch.cat(told, dim=-1), length, dim=1)), pooled
