"""Painters: a batch of prompts and seeds in, images out, by diffusers as its users call it, or without a model."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from PIL import Image

from actors.models.loading import load_model
from actors.models.model import Pixels
from actors.models.settings import ModelSettings
from actors.records import Batch, ImageRequest, Prompt
from benchmarks.baselines.task import Task

TOO_MANY_PIXELS = 8 * 1024**2
"""For a VAE to decode at once: its activations take 256 channels of each, and from 2**31 elements on some kernels fail
(huggingface/diffusers#3643). It then has to be told to take the images one by one."""


class Painter(Protocol):
    """Makes images of one task."""

    def images(self, prompts: list[str], seeds: list[int]) -> list[Image.Image]:
        """As `pipe(...)` gives them."""
        ...

    def pixels(self, prompts: list[str], seeds: list[int]) -> Pixels:
        """As whoever knows better takes them: uint8, turned into that where they were made."""
        ...


def painter(task: Task) -> Painter:
    """The one for this task, loaded."""
    return Pipe(task) if task.folder else Null(task)


class Pipe:
    """A pipeline of diffusers, loaded and called as its documentation says."""

    def __init__(self, task: Task) -> None:
        import diffusers
        import torch

        torch.set_num_threads(task.threads)
        diffusers.utils.logging.set_verbosity_error()
        diffusers.utils.logging.disable_progress_bar()
        dtype = getattr(torch, task.dtype)
        self.task = task
        self._torch = torch
        pipeline = diffusers.DiffusionPipeline.from_pretrained(task.folder, dtype=dtype, local_files_only=True)
        pipeline.set_progress_bar_config(disable=True)
        if task.batch * task.width * task.height >= TOO_MANY_PIXELS:
            pipeline.vae.enable_slicing()
        self.pipeline = pipeline.to(task.device)

    def images(self, prompts: list[str], seeds: list[int]) -> list[Image.Image]:
        made: list[Image.Image] = self.pipeline(**self._words(prompts, seeds)).images
        return made

    def pixels(self, prompts: list[str], seeds: list[int]) -> Pixels:
        with self._torch.inference_mode():
            made = self.pipeline(**self._words(prompts, seeds), output_type="pt").images
            whole = made.float().mul(255).round().to(self._torch.uint8)
            pixels: Pixels = whole.permute(0, 2, 3, 1).contiguous().cpu().numpy()
        return pixels

    def _words(self, prompts: list[str], seeds: list[int]) -> dict[str, Any]:
        return {
            "prompt": prompts,
            "height": self.task.height,
            "width": self.task.width,
            "num_inference_steps": self.task.steps,
            "guidance_scale": self.task.guidance,
            "generator": [self._torch.Generator("cpu").manual_seed(seed) for seed in seeds],
        }


class Engine:
    """lightmill's own model, in memory: what a worker asks for each batch, and nothing else of lightmill."""

    def __init__(self, task: Task) -> None:
        words = {"width": task.width, "height": task.height, "batch_size": task.batch}
        if task.folder:
            words |= {"num_inference_steps": task.steps, "guidance_scale": task.guidance, "dtype": task.dtype}
        settings = ModelSettings.model_validate({"model": task.model, "threads": task.threads, **words})
        self.task = task
        self._model = load_model(settings, threads=task.threads, device=task.device if task.folder else None)
        self._model.warm_up()

    def pixels(self, prompts: list[str], seeds: list[int]) -> Pixels:
        return self.launch(prompts, seeds)()

    def launch(self, prompts: list[str], seeds: list[int]) -> Callable[[], Pixels]:
        """The batch goes on the device; what is returned waits for it."""
        requests = tuple(map(self._request, range(len(prompts)), prompts, seeds))
        batch = Batch(self._model.counted(requests), len(requests))
        painted = self._model.launch(batch)

        def wait() -> Pixels:
            images = painted()
            assert all(images.finite), "NaN or infinity"
            return images.pixels

        return wait

    def images(self, prompts: list[str], seeds: list[int]) -> list[Image.Image]:
        return [Image.fromarray(np.asarray(pixels)) for pixels in self.pixels(prompts, seeds)]

    def _request(self, row: int, prompt: str, seed: int) -> ImageRequest:
        return ImageRequest(
            prompt=Prompt(source_row=row, id=str(row), text=prompt),
            image_index=0,
            lane=0,
            negative_prompt="",
            seed=seed,
            seed_rejected=None,
            width=self.task.width,
            height=self.task.height,
            num_inference_steps=self.task.steps,
            guidance_scale=self.task.guidance,
        )


class Null(Engine):
    """A model that takes no time, or just as long as it is told: photograph-like pictures from a pool."""
