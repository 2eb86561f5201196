"""Call: what the `__call__` of a pipeline is given for a batch."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import diffusers
import torch

from actors.encoding import picture
from actors.models.conditioning import Conditioning
from actors.models.pipelines import parameters
from actors.models.settings import ModelSettings
from actors.models.texts import Texts
from actors.records import ImageRequest


class Call:
    """Of one pipeline, whose signature says what it knows."""

    def __init__(self, pipeline: diffusers.DiffusionPipeline, settings: ModelSettings) -> None:
        self.defaults = parameters(type(pipeline))
        self.guidance = guidance_parameter(self.defaults)
        self._clip_skip = settings.clip_skip or None
        weighted = settings.prompt_encoding == "weighted"
        self._conditioning = Conditioning(pipeline, self._clip_skip) if weighted else None
        self._texts = Texts(pipeline, self.defaults, self._clip_skip)

    @property
    def reads_on(self) -> bool:
        """Whether prompts are read to their end, however long they are."""
        return self._conditioning is not None

    def chunks(self, request: ImageRequest) -> int:
        """How often the text encoder is asked for its prompt."""
        return self._conditioning.chunks(request) if self._conditioning else 1

    def texts(self, requests: Sequence[ImageRequest], ahead: Iterable[ImageRequest]) -> dict[str, Any]:
        """What stands for the prompts, as embeddings where lightmill makes them itself."""
        if self._conditioning:
            return self._conditioning.arguments(requests)
        if self._texts.is_able:
            return self._texts.arguments(requests, ahead)
        told: dict[str, Any] = {"prompt": [request.prompt.text for request in requests], "clip_skip": self._clip_skip}
        # true_cfg_scale does nothing where there is none.
        if self.guidance == "true_cfg_scale" or any(request.negative_prompt for request in requests):
            told["negative_prompt"] = [request.negative_prompt for request in requests]
        return told

    def arguments(self, requests: Sequence[ImageRequest], texts: Mapping[str, Any]) -> dict[str, Any]:
        """All of them, with these texts."""
        first = requests[0]
        given = {
            **texts,
            "height": first.height,
            "width": first.width,
            "num_inference_steps": first.num_inference_steps,
            self.guidance: first.guidance_scale,
            # Noise from the CPU is the same for every device.
            "generator": [torch.Generator("cpu").manual_seed(request.seed) for request in requests],
            "output_type": "pt",
            **(_inputs(requests) if first.input_images else {}),
        }
        return {name: value for name, value in given.items() if name in self.defaults}


def guidance_parameter(defaults: Mapping[str, Any]) -> str:
    """What the pipeline calls a job's `guidance_scale`. With Qwen-Image that is `true_cfg_scale`, and its
    guidance_scale, which has no default, is for distilled models; FLUX has both, and is made for the latter.
    """
    is_true = "true_cfg_scale" in defaults and not isinstance(defaults.get("guidance_scale"), (int, float))
    return "true_cfg_scale" if is_true else "guidance_scale"


def _inputs(requests: Sequence[ImageRequest]) -> dict[str, Any]:
    """Images as Pillow has them, which every pipeline takes the same way: arrays mean other things to some of them."""
    first, images = requests[0], [request.input_images for request in requests]
    masks = [picture(one.mask_image) for one in images if one and one.mask_image is not None]
    depths = [torch.tensor(one.depth_map) for one in images if one and one.depth_map is not None]
    return {
        "image": [picture(one.image) for one in images if one],
        "strength": first.strength,
        "noise_level": first.noise_level,
        **({"mask_image": masks} if masks else {}),
        **({"depth_map": torch.stack(depths)} if depths else {}),
    }
