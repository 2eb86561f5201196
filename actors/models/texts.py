"""Texts: prompts as what the text encoders make of them, each text once.

Every call of the encoders has as many texts as the batch has images, as in diffusers' own pipeline: then the numbers
are the same to the last bit, whatever the neighbours are. So a prompt of several images, and a negative prompt that
images share, are encoded once, and where a call has room left, prompts of the batches to come go with it.
"""

import inspect
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import diffusers
import torch

from actors.records import ImageRequest

KEPT_BYTES = 128 * 1024**2
"""Of embeddings, on the device: 40 texts with T5 in half precision, 1,000 with CLIP."""

_POOLED = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
_MASKED = ("prompt_embeds", "prompt_attention_mask", "negative_prompt_embeds", "negative_prompt_attention_mask")
RETURNS = {
    "StableDiffusionPipeline": _POOLED[:2],
    "StableDiffusionImg2ImgPipeline": _POOLED[:2],
    "StableDiffusionInpaintPipeline": _POOLED[:2],
    "StableDiffusionXLPipeline": _POOLED,
    "StableDiffusionXLImg2ImgPipeline": _POOLED,
    "StableDiffusionXLInpaintPipeline": _POOLED,
    "StableDiffusion3Pipeline": _POOLED,
    "PixArtSigmaPipeline": _MASKED,
    "SanaPipeline": _MASKED,
}
"""What `encode_prompt` returns, by the names under which `__call__` takes it. Every other pipeline encodes for itself:
there is no negative prompt, or texts are padded to the longest of the batch, so that they depend on each other."""

_Row = tuple[torch.Tensor, ...]


class Texts:
    """For one pipeline."""

    def __init__(
        self, pipeline: diffusers.DiffusionPipeline, defaults: Mapping[str, Any], clip_skip: int | None
    ) -> None:
        """`defaults`: the parameters of its `__call__`."""
        self._pipeline = pipeline
        self._names = RETURNS.get(type(pipeline).__name__, ())
        self._options: dict[str, Any] = {}
        if self._names:
            known = inspect.signature(pipeline.encode_prompt).parameters
            shared = {name: value for name, value in defaults.items() if name in known and name not in self._names}
            own = {"device": pipeline.device, "clip_skip": clip_skip}
            self._options = {**shared, **{name: value for name, value in own.items() if name in known}}
            self._options.pop("negative_prompt", None)  # where a batch has none, what `encode_prompt` makes of that
        self._kept: OrderedDict[tuple[str | None, bool, int], _Row] = OrderedDict()
        self._bytes = 0

    @property
    def is_able(self) -> bool:
        """Whether the pipeline is one of those whose texts are encoded here."""
        return bool(self._names)

    def arguments(self, requests: Sequence[ImageRequest], ahead: Iterable[ImageRequest] = ()) -> dict[str, Any]:
        """Of a batch, in the place of `prompt` and `negative_prompt`. `ahead` are requests of the batches after it."""
        told = self._stacked([request.prompt.text for request in requests], [one.prompt.text for one in ahead], {})
        if requests[0].guidance_scale <= 1:
            return told  # nothing is guided away from anything
        # Batches hold either images with a negative prompt or images without: where there is none, SDXL takes zeros,
        # which is not what it makes of an empty text.
        some = any(request.negative_prompt for request in requests)
        against = self._stacked([one.negative_prompt if some else None for one in requests], (), told)
        return {**told, **against, "negative_prompt": None}  # where it is an empty text otherwise

    def _stacked(
        self, texts: Sequence[str | None], ahead: Sequence[str], told: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """By the names of `__call__`. `told` are the batch's prompts, where the texts are negative ones."""
        size, negative = len(texts), bool(told)
        rows = {text: row for text in texts if (row := self._kept.get((text, negative, size)))}
        for text in rows:
            self._kept.move_to_end((text, negative, size))
        if missing := [text for text in dict.fromkeys(texts) if text not in rows]:
            more = [text for text in dict.fromkeys(ahead) if text not in missing]
            asked = [*missing, *(text for text in more if (text, negative, size) not in self._kept)][:size]
            made = self._encoded([*asked, *[asked[-1]] * (size - len(asked))], told)
            rows |= (fresh := dict(zip(asked, made, strict=False)))
            self._keep({(text, negative, size): row for text, row in fresh.items()})
        columns = zip(*(rows[text] for text in texts), strict=True)
        return {name: torch.stack(column) for name, column in zip(self._mine(told), columns, strict=True)}

    def _encoded(self, texts: Sequence[str | None], told: Mapping[str, torch.Tensor]) -> list[_Row]:
        given: dict[str, Any] = {"prompt": None, **told} if told else {"prompt": list(texts)}
        if told and texts[0] is not None:
            given["negative_prompt"] = list(texts)
        made = self._pipeline.encode_prompt(**self._options | given, do_classifier_free_guidance=bool(told))
        columns = dict(zip(self._names, made, strict=True))
        # Copied, so that a row which is kept holds on to no other.
        return [tuple(row.clone() for row in rows) for rows in zip(*map(columns.get, self._mine(told)), strict=True)]

    def _mine(self, told: Mapping[str, torch.Tensor]) -> list[str]:
        return [name for name in self._names if name.startswith("negative_") is bool(told)]

    def _keep(self, rows: Mapping[tuple[str | None, bool, int], _Row]) -> None:
        self._kept |= rows
        self._bytes += sum(_size(row) for row in rows.values())
        while self._bytes > KEPT_BYTES:
            self._bytes -= _size(self._kept.popitem(last=False)[1])


def _size(row: _Row) -> int:
    return sum(tensor.nbytes for tensor in row)
