"""DiffusersModel: a pipeline of diffusers that reads prompts, painted batch by batch."""

import dataclasses
import functools
import gc
import json
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, Literal, TypeVar

import diffusers
import torch
import transformers

from actors.errors import OutOfMemory, Problem
from actors.models.accelerator import best_dtype, chosen, is_out_of_memory, lose_device, place, take_share
from actors.models.asynchrony import Asynchrony
from actors.models.call import Call
from actors.models.compilation import compile_blocks
from actors.models.facts import ModelFacts
from actors.models.freed_memory import keep_freed_memory
from actors.models.model import Images, ModelInfo
from actors.models.offloading import offloaded_text_encoders
from actors.models.pictures import Copies, Decoder, to_bytes
from actors.models.pipelines import load_pipeline
from actors.models.safety import SafetyChecker
from actors.models.settings import ModelSettings
from actors.models.shortcuts import Shortcuts
from actors.models.stopwatch import Stopwatch
from actors.models.trust import weights_sha256
from actors.models.tuning import tune
from actors.records import Batch, ImageRequest
from actors.warmup import blank_request

_Made = TypeVar("_Made")
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
        self._device = chosen(device, settings.gpus_per_worker or 0.0)
        if self._device.type == "cpu":
            keep_freed_memory()
        ThreadPoolExecutor(1).submit(weights_sha256, facts.weights)  # while they are loaded: a GB takes 0.5 s
        share = settings.gpus_per_worker or 1.0
        if self._device.type == "cuda":
            take_share(share)
        self._dtype = settings.dtype or best_dtype(self._device, facts.card)
        pipeline, recipe = load_pipeline(facts, settings, DTYPES[self._dtype])
        elsewhere = settings.offload_text_encoders
        with offloaded_text_encoders(pipeline, self._device) if elsewhere else nullcontext():
            self._pipeline = place(pipeline, self._device, share)
        recipe |= tune(self._pipeline, self._device)
        self._shortcuts = Shortcuts(self._pipeline, settings.shortcuts)
        recipe |= self._shortcuts.recipe
        recipe |= compile_blocks(self._pipeline) if settings.compile else {}
        self._recipe = json.dumps(recipe, sort_keys=True) if recipe else None
        self._is_compiled = settings.compile  # for a batch of the job's own size, by `actors.warmup`
        checker = SafetyChecker.taken_from(self._pipeline, required=safety_checker == "required")
        self._checker = None if safety_checker == "off" else checker
        self._call = Call(self._pipeline, settings)
        self._watch = Stopwatch(self._device)
        self._decoder = Decoder(self._pipeline, self._device, lambda: self._watch.begin("decode"))
        self._time_texts()
        self._asynchrony = Asynchrony(self._pipeline, self._device)
        self._copies = Copies(self._device)
        self._tokenizer = getattr(self._pipeline, facts.tokenizer.name) if facts.tokenizer else None
        self._prompt_tokens = _prompt_tokens(facts, self._call.defaults)
        self.info = self._describe(facts, threads)

    def counted(self, requests: Iterable[ImageRequest]) -> tuple[ImageRequest, ...]:
        if not self._call.reads_on:
            return tuple(requests)
        return tuple(dataclasses.replace(one, chunks=self._call.chunks(one)) for one in requests)

    def warm_up(self) -> None:
        if self._is_compiled or self._device.type != "cuda" or self.info.task != "text-to-image":
            return
        with suppress(OutOfMemory):  # the job may want smaller ones
            self.generate(Batch((blank_request(self.info),), 1))

    def uncompiled(self) -> AbstractContextManager[object]:
        return torch.compiler.set_stance("force_eager") if self._is_compiled else nullcontext()

    def generate(self, batch: Batch) -> Images:
        """All of it: nothing else is on the device."""
        return self.launch(batch)()

    def launch(self, batch: Batch, ahead: Iterable[ImageRequest] = ()) -> Callable[[], Images]:
        requests = [*batch.requests, *[batch.requests[-1]] * (batch.size - len(batch.requests))]
        wait = self._guarded(batch, lambda: self._paint(requests, len(batch.requests), ahead))
        return functools.partial(self._guarded, batch, wait)

    def _guarded(self, batch: Batch, work: Callable[[], _Made]) -> _Made:
        try:
            return work()
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
        first = batch.requests[0]
        raise OutOfMemory(
            Problem(
                "LM1604",
                f"no room on {self._device} for {batch.size} images of {first.width}x{first.height}: {said}",
                help="lower `batch_size`",
            )
        )

    @torch.inference_mode()  # a few per cent faster than diffusers' own no_grad where the model is small
    def _paint(
        self, requests: Sequence[ImageRequest], wanted: int, ahead: Iterable[ImageRequest]
    ) -> Callable[[], Images]:
        """What is returned waits for the device. On a CPU all is done by then, on the thread that computes."""
        self._watch = watch = Stopwatch(self._device)
        self._decoder.clear()
        with self._asynchrony:
            watch.begin("text")
            texts = self._call.texts(requests, ahead)
            watch.begin("denoise")
            with self._shortcuts.of(requests):
                images = self._pipeline(**self._call.arguments(requests, texts)).images
            made = to_bytes(images), self._decoder.finite(images)
            watch.begin(None)  # before the copies, whose end is waited for
            copies = self._copies.of(*made)
        truncated = self._count_truncated([request.prompt.text for request in requests[:wanted]])

        def wait() -> Images:
            pixels, finite = (copy.numpy() for copy in copies())
            # All of the batch, as it is with the pictures themselves: another size moves scores by a rounding step.
            with self._copies.aside():
                scores = self._checker.scores(pixels)[:wanted].tolist() if self._checker else [None] * wanted
            return Images(
                pixels=pixels[:wanted],
                finite=tuple(finite[:wanted].tolist()),
                nsfw=tuple(None if score is None else score > 0 for score in scores),
                nsfw_score=tuple(scores),
                prompt_truncated=truncated,
                seconds=watch.seconds(),
            )

        if self._device.type == "cpu":
            done = wait()
            return lambda: done
        return wait

    def _time_texts(self) -> None:
        """Where the pipeline encodes them itself, in the middle of its call."""
        own = getattr(self._pipeline, "encode_prompt", None)
        if own is None:
            return

        @functools.wraps(own)
        def encode_prompt(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  as the pipeline has it
            self._watch.begin("text")
            try:
                return own(*args, **kwargs)
            finally:
                self._watch.begin("denoise")

        self._pipeline.encode_prompt = encode_prompt

    def _count_truncated(self, prompts: Sequence[str]) -> tuple[int, ...]:
        limit = None if self._call.reads_on else self._prompt_tokens
        # No token of ASCII is shorter than a character, so most prompts need no second look.
        if self._tokenizer is None or limit is None or all(len(p) <= limit - 2 and p.isascii() for p in prompts):
            return (0,) * len(prompts)
        tokens = self._tokenizer(list(prompts), truncation=False, padding=False).input_ids
        return tuple(max(0, len(ids) - limit) for ids in tokens)

    def _describe(self, facts: ModelFacts, threads: int) -> ModelInfo:
        defaults, guided = self._call.defaults, self._call.guidance
        noise = defaults.get("noise_level") if facts.noise_level is None else facts.noise_level
        steps = facts.num_inference_steps or defaults.get("num_inference_steps")
        guidance = facts.guidance_scale if facts.guidance_scale is not None else defaults.get(guided)
        on_gpu = self._device.type == "cuda"
        return ModelInfo(
            model=facts.model,
            model_revision=facts.revision,
            weights_sha256=weights_sha256(facts.weights),
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


def _prompt_tokens(facts: ModelFacts, defaults: dict[str, Any]) -> int | None:
    longest = defaults.get("max_sequence_length")
    if facts.prompt_tokens and isinstance(longest, int):
        return min(facts.prompt_tokens, longest)
    return facts.prompt_tokens
