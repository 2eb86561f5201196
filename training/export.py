"""From checkpoints to a folder that `StableDiffusionPipeline.from_pretrained` loads, in half precision."""

import shutil
from pathlib import Path

import diffusers
import torch

from training.autoencoder import PLAN as AUTOENCODER
from training.denoiser import load_denoiser
from training.loop import load_average
from training.model import NOISE, make_autoencoder
from training.text import load_text_encoder, load_tokenizer


def make_pipeline(work: Path, prediction: str) -> diffusers.StableDiffusionPipeline:
    """The pipeline of one variant, of whatever its checkpoints hold by now."""
    vae = make_autoencoder()
    load_average(vae, work, AUTOENCODER.name)
    deviation = float(torch.load(work / "latents.pt", weights_only=True)["deviation"])
    vae.register_to_config(scaling_factor=round(1 / deviation, 5), force_upcast=False)
    scheduler = diffusers.DPMSolverMultistepScheduler(**NOISE, prediction_type=prediction, steps_offset=1)
    return diffusers.StableDiffusionPipeline(
        vae=vae.eval(),
        text_encoder=load_text_encoder(work).eval(),
        tokenizer=load_tokenizer(work),
        unet=load_denoiser(work, prediction),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def export(work: Path, prediction: str, folder: Path) -> None:
    """Save one variant, in place of what the folder held."""
    pipeline = make_pipeline(work, prediction).to(torch.float16)
    shutil.rmtree(folder, ignore_errors=True)
    pipeline.save_pretrained(str(folder), safe_serialization=True)
    for file in folder.rglob("*.safetensors"):
        file.chmod(0o644)  # safetensors keeps its files to their owner; these are everybody's
