"""SafetyChecker: a pipeline's own safety checker, taken out of it and asked apart.

Left in the pipeline it paints black what it flags, and says neither how sure it is nor what was there. Asked apart it
gives a score, and the pictures are those of the pipeline without it.
"""

from dataclasses import dataclass
from typing import Any, Self

import diffusers
import numpy as np
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker, cosine_distance
from numpy.typing import NDArray

from actors.errors import InputError, Problem
from actors.models.model import Pixels

CARE = 0.01
"""Added to every score of an image that touches one of the special concepts, as diffusers does."""
DECIMALS = 3
"""To which diffusers rounds before it compares with 0."""


@dataclass(frozen=True, slots=True)
class SafetyChecker:
    """CLIP's view of a picture, compared with concepts that it should not show."""

    module: StableDiffusionSafetyChecker
    extractor: Any
    """The pipeline's feature extractor: from pictures to what the module sees."""

    @classmethod
    def taken_from(cls, pipeline: diffusers.DiffusionPipeline, *, required: bool = False) -> Self | None:
        """Take the checker out, so that the pipeline no longer asks it; None where there is none.

        Raises `InputError`: LM1230 there is none, and it is required; LM1231 it is of another kind, and could only be
        left where it paints.
        """
        module = getattr(pipeline, "safety_checker", None)
        if module is None and required:
            message = "the model was loaded without a safety checker, which the job's policy requires"
            raise InputError(Problem("LM1230", message, help="use a model that brings one, or change the policy"))
        if module is None:
            return None
        extractor = getattr(pipeline, "feature_extractor", None)
        if not isinstance(module, StableDiffusionSafetyChecker) or extractor is None:
            raise InputError(
                Problem(
                    "LM1231",
                    f"the model's safety checker, {type(module).__name__}, cannot be asked apart from its pipeline",
                    help="save the model without it: `pipe.safety_checker = None`, then `pipe.save_pretrained(folder)`",
                )
            )
        pipeline.register_modules(safety_checker=None)
        return cls(module, extractor)

    @torch.inference_mode()
    def scores(self, pixels: Pixels) -> NDArray[np.float32]:
        """How near each picture comes to the nearest concept: cosine less that concept's threshold, rounded to three
        decimals. Above 0 diffusers calls the picture unsafe."""
        module = self.module
        seen = self.extractor(list(pixels), return_tensors="pt").pixel_values
        seen = seen.to(module.device, module.dtype)
        embedded = module.visual_projection(module.vision_model(seen)[1])
        special = _over(embedded, module.special_care_embeds, module.special_care_embeds_weights)
        care = np.where((special > 0).any(axis=1, keepdims=True), np.float32(CARE), np.float32(0))
        found = _over(embedded, module.concept_embeds, module.concept_embeds_weights, care)
        highest: NDArray[np.float32] = found.max(axis=1)
        return highest


def _over(
    embedded: torch.Tensor, concepts: torch.Tensor, thresholds: torch.Tensor, care: NDArray[np.float32] | float = 0.0
) -> NDArray[np.float32]:
    """By how much each image is over the threshold of each concept, in the arithmetic of diffusers."""
    cosines = cosine_distance(embedded, concepts).float().cpu().numpy()
    over: NDArray[np.float32] = (cosines - thresholds.float().cpu().numpy() + care).round(DECIMALS)
    return over
