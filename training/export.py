"""From checkpoints to a folder that `StableDiffusionPipeline.from_pretrained` loads, in half precision."""

import shutil
from pathlib import Path

import diffusers
import torch

from training.autoencoder import load_autoencoder
from training.denoiser import load_denoiser
from training.model import NOISE
from training.text import load_text_encoder, load_tokenizer

_MODELS = Path(__file__).parents[1] / "actors" / "models"
FOLDERS = {"epsilon": _MODELS / "demo", "v_prediction": _MODELS / "demo-v"}


def make_pipeline(work: Path, prediction: str) -> diffusers.StableDiffusionPipeline:
    """The pipeline of one variant, of whatever its checkpoints hold by now."""
    scheduler = diffusers.DPMSolverMultistepScheduler(**NOISE, prediction_type=prediction, steps_offset=1)
    return diffusers.StableDiffusionPipeline(
        vae=load_autoencoder(work),
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
