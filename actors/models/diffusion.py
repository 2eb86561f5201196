"""DiffusersModel: a pipeline of diffusers that reads prompts, painted batch by batch."""

import dataclasses
import gc
import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import diffusers
import torch
import transformers

from actors.encoding import picture
from actors.errors import OutOfMemory, Problem
from actors.models.accelerator import best_dtype, is_out_of_memory, lose_device, place
from actors.models.compilation import compile_blocks
from actors.models.conditioning import Conditioning
from actors.models.facts import ModelFacts
from actors.models.model import Images, ModelInfo, Pixels
from actors.models.pipelines import load_pipeline, parameters
from actors.models.safety import SafetyChecker
from actors.models.shortcuts import Shortcuts
from actors.models.trust import weights_sha256
from actors.models.tuning import tune
from actors.records import Batch, ImageRequest
from actors.settings import ModelSettings

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

# Their hints on prompts that were cut, safety checkers and missing torchvision repeat for every batch; what matters of
# them is in the rows (`prompt_truncated`, `nsfw`).
for _library in (diffusers, transformers):
    _library.utils.logging.set_verbosity_error()
    _library.utils.logging.disable_progress_bar()
# The depth estimator is asked under autocast, which on a CPU has nothing to do in float32, and says so every time.
warnings.filterwarnings("ignore", "In CPU autocast, but the target dtype is not supported", UserWarning)


class DiffusersModel:
    """One pipeline on one device, called as diffusers documents it, so that its pictures are diffusers' own."""

    def __init__(
        self,
        facts: ModelFacts,
        settings: ModelSettings,
        *,
        threads: int = 1,
        device: str | None = None,
        safety_checker: Literal["required", "off"] | None = None,
    ) -> None:
        torch.set_num_threads(threads)
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._dtype = settings.dtype or best_dtype(self._device, facts.card)
        pipeline, recipe = load_pipeline(facts, settings, DTYPES[self._dtype])
        self._pipeline = place(pipeline, self._device)
        recipe |= tune(self._pipeline, self._device)
        self._shortcuts = Shortcuts(self._pipeline, settings.shortcuts)
        recipe |= self._shortcuts.recipe
        recipe |= compile_blocks(self._pipeline) if settings.compile else {}
        self._recipe = json.dumps(recipe, sort_keys=True) if recipe else None
        checker = SafetyChecker.taken_from(self._pipeline, required=safety_checker == "required")
        self._checker = None if safety_checker == "off" else checker
        self._clip_skip = settings.clip_skip or None
        weighted = settings.prompt_encoding == "weighted"
        self._conditioning = Conditioning(self._pipeline, self._clip_skip) if weighted else None
        self._defaults = parameters(type(self._pipeline))
        self._guidance = guidance_parameter(self._defaults)
        self._tokenizer = getattr(self._pipeline, facts.tokenizer.name) if facts.tokenizer else None
        self._prompt_tokens = _prompt_tokens(facts, self._defaults)
        self._decoded_finite: list[torch.Tensor] = []
        decoder = getattr(getattr(self._pipeline, "vae", None), "decoder", None)
        if decoder is not None:
            decoder.register_forward_hook(self._look_at_decoded)
        self.info = self._describe(facts, threads)

    def counted(self, requests: Iterable[ImageRequest]) -> tuple[ImageRequest, ...]:
        if self._conditioning is None:
            return tuple(requests)
        return tuple(dataclasses.replace(one, chunks=self._conditioning.chunks(one)) for one in requests)

    def generate(self, batch: Batch) -> Images:
        requests = [*batch.requests, *[batch.requests[-1]] * (batch.size - len(batch.requests))]
        try:
            return self._paint(requests, wanted=len(batch.requests))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                if "CUDA error" in str(error):
                    lose_device(error)
                raise
            said = str(error).partition("\n")[0]
        # Only here, after the exception is gone, are the tensors of its frames free.
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        first = requests[0]
        raise OutOfMemory(
            Problem(
                "LM1604",
                f"no room on {self._device} for {batch.size} images of {first.width}x{first.height}: {said}",
                help="lower `batch_size`",
            )
        )

    @torch.inference_mode()  # a few per cent faster than diffusers' own no_grad where the model is small
    def _paint(self, requests: Sequence[ImageRequest], wanted: int) -> Images:
        images, finite = self._pass(requests)
        pixels = _to_pixels(images)
        # All of the batch, as it is with the pictures themselves: another size moves scores by a rounding step.
        scores = self._checker.scores(pixels)[:wanted].tolist() if self._checker else [None] * wanted
        return Images(
            pixels=pixels[:wanted],
            finite=tuple(finite[:wanted].tolist()),
            nsfw=tuple(None if score is None else score > 0 for score in scores),
            nsfw_score=tuple(scores),
            prompt_truncated=self._count_truncated([request.prompt.text for request in requests[:wanted]]),
        )

    def _pass(self, requests: Sequence[ImageRequest]) -> tuple[torch.Tensor, torch.Tensor]:
        """The images `[n, 3, height, width]`, and which of them are finite."""
        self._decoded_finite.clear()
        self._shortcuts.begin(requests)
        images = self._pipeline(**self._arguments(requests)).images
        finite = torch.isfinite(images).flatten(1).all(dim=1)
        if sum(map(len, self._decoded_finite)) == len(requests):
            finite &= torch.cat(self._decoded_finite)
        return images, finite

    def _look_at_decoded(self, _module: torch.nn.Module, _inputs: object, decoded: object) -> None:
        """Infinity has to be looked for here: what the pipeline hands out is cut off at 1, which is white."""
        if isinstance(decoded, torch.Tensor):
            self._decoded_finite.append(torch.isfinite(decoded).flatten(1).all(dim=1))

    def _arguments(self, requests: Sequence[ImageRequest]) -> dict[str, Any]:
        """What the pipeline's `__call__` is given: only what its signature knows."""
        first = requests[0]
        arguments: dict[str, Any] = {
            "prompt": [request.prompt.text for request in requests],
            "height": first.height,
            "width": first.width,
            "num_inference_steps": first.num_inference_steps,
            self._guidance: first.guidance_scale,
            # Noise from the CPU is the same for every device.
            "generator": [torch.Generator("cpu").manual_seed(request.seed) for request in requests],
            "clip_skip": self._clip_skip,
            "output_type": "pt",
        }
        if self._conditioning:
            del arguments["prompt"], arguments["clip_skip"]
            arguments |= self._conditioning.arguments(requests)
        # Batches hold either images with a negative prompt or images without: where there is none, SDXL takes zeros,
        # which is not what it makes of an empty text.
        # And true_cfg_scale does nothing where there is none.
        elif self._guidance == "true_cfg_scale" or any(request.negative_prompt for request in requests):
            arguments["negative_prompt"] = [request.negative_prompt for request in requests]
        if first.input_images:
            arguments |= _input_arguments(requests)
        return {name: value for name, value in arguments.items() if name in self._defaults}

    def _count_truncated(self, prompts: Sequence[str]) -> tuple[int, ...]:
        limit = None if self._conditioning else self._prompt_tokens
        # No token of ASCII is shorter than a character, so most prompts need no second look.
        if self._tokenizer is None or limit is None or all(len(p) <= limit - 2 and p.isascii() for p in prompts):
            return (0,) * len(prompts)
        tokens = self._tokenizer(list(prompts), truncation=False, padding=False).input_ids
        return tuple(max(0, len(ids) - limit) for ids in tokens)

    def _describe(self, facts: ModelFacts, threads: int) -> ModelInfo:
        defaults = self._defaults
        noise = defaults.get("noise_level") if facts.noise_level is None else facts.noise_level
        assert facts.folder is not None
        steps = facts.num_inference_steps or self._defaults.get("num_inference_steps")
        guidance = facts.guidance_scale if facts.guidance_scale is not None else self._defaults.get(self._guidance)
        on_gpu = self._device.type == "cuda"
        return ModelInfo(
            model=facts.model,
            model_revision=facts.revision,
            weights_sha256=weights_sha256(facts.file or facts.folder),
            model_license=facts.license,
            model_tier=facts.tier,
            recipe=self._recipe,
            scheduler=type(self._pipeline.scheduler).__name__,
            dtype=self._dtype,
            threads=threads,
            device=torch.cuda.get_device_name(self._device) if on_gpu else self._device.type,
            width=facts.width,
            height=facts.height,
            num_inference_steps=steps if isinstance(steps, int) else 50,
            guidance_scale=float(guidance) if isinstance(guidance, (int, float)) else 0.0,
            negative_prompt=facts.negative_prompt,
            size_multiple=facts.size_multiple,
            task=facts.task,
            strength=facts.strength or defaults["strength"] if "strength" in defaults else None,
            noise_level=noise if "noise_level" in defaults else None,
            max_noise_level=getattr(self._pipeline.config, "max_noise_level", None),
        )


def _input_arguments(requests: Sequence[ImageRequest]) -> dict[str, Any]:
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


def guidance_parameter(defaults: Mapping[str, Any]) -> str:
    """What the pipeline calls a job's `guidance_scale`. With Qwen-Image that is `true_cfg_scale`, and its
    guidance_scale, which has no default, is for distilled models; FLUX has both, and is made for the latter.
    """
    is_true = "true_cfg_scale" in defaults and not isinstance(defaults.get("guidance_scale"), (int, float))
    return "true_cfg_scale" if is_true else "guidance_scale"


def _prompt_tokens(facts: ModelFacts, defaults: dict[str, Any]) -> int | None:
    longest = defaults.get("max_sequence_length")
    if facts.prompt_tokens and isinstance(longest, int):
        return min(facts.prompt_tokens, longest)
    return facts.prompt_tokens


def _to_pixels(images: torch.Tensor) -> Pixels:
    """uint8 `[n, height, width, 3]`, the very bytes of diffusers' PIL images, from floats in [0, 1].

    Converted on the device: the one copy to the host is then a quarter of the floats'. What is not finite has no
    colour and is black here.
    """
    scaled = images.float().nan_to_num(0.0, 0.0, 0.0).mul(255).round()
    return scaled.to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()
