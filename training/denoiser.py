"""The denoiser's training, in either parameterisation: what a step predicts is the noise, or the velocity."""

from pathlib import Path

import diffusers
import torch

from training.loop import Plan, load_average, train
from training.model import LATENT_CHANNELS, LATENT_SIDE, NOISE, make_denoiser
from training.pool import load_captions
from training.text import load_text_encoder, load_tokenizer, tokenize

PLANS = {
    "epsilon": Plan("epsilon", steps=8000, rate=1.5e-3, warmup=200, decay=0.998, weight_decay=0.01, save_every=100),
    "v_prediction": Plan(
        "v_prediction", steps=2000, rate=8e-4, warmup=100, decay=0.998, weight_decay=0.01, save_every=100
    ),
}

_BATCH = 32  # of each core
_UNCAPTIONED = 0.1
_GAMMA = 5.0


def train_denoiser(work: Path, prediction: str, *, seed: int, cores: int) -> None:
    """Train one variant to the end of its plan. Velocity starts from what the other has learned by then."""
    saved = torch.load(work / "latents.pt", weights_only=True)
    latents, deviation = saved["latents"], float(saved["deviation"])
    states, numbers = _read(work)
    noise = diffusers.DDPMScheduler(**NOISE)
    signal = noise.alphas_cumprod

    def loss_of(model: torch.nn.Module, random: torch.Generator) -> torch.Tensor:
        chosen = torch.randint(len(latents), (_BATCH,), generator=random)
        clean = latents[chosen].float() / deviation
        drop = torch.rand(_BATCH, generator=random) < _UNCAPTIONED
        words = states[torch.where(drop, 0, numbers[chosen])].float()
        step = torch.randint(len(signal), (_BATCH,), generator=random)
        added = torch.randn(_BATCH, LATENT_CHANNELS, LATENT_SIDE, LATENT_SIDE, generator=random)
        target = added if prediction == "epsilon" else noise.get_velocity(clean, added, step)
        output = model(noise.add_noise(clean, added, step), step, words, return_dict=False)[0]
        return ((output - target).square().mean(dim=(1, 2, 3)) * _weight(signal[step], prediction)).mean()

    torch.manual_seed(seed)
    model = make_denoiser().to(memory_format=torch.channels_last)
    if prediction == "v_prediction":
        load_average(model, work, PLANS["epsilon"].name)
    train(model, loss_of, PLANS[prediction], work, seed=seed, cores=cores)


def _weight(signal: torch.Tensor, prediction: str) -> torch.Tensor:
    """Steps that add little noise teach little: their share of the loss is capped (min-SNR)."""
    ratio = signal / (1 - signal)
    return ratio.clamp(max=_GAMMA) / (ratio if prediction == "epsilon" else ratio + 1)


@torch.inference_mode()
def _read(work: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """What the text model makes of each caption, the empty one first, and which of them belongs to which drawing."""
    captions = load_captions(work)
    texts = ["", *sorted(set(captions))]
    places = {text: number for number, text in enumerate(texts)}
    tokenizer, encoder = load_tokenizer(work), load_text_encoder(work)
    parts = [
        encoder(tokenize(tokenizer, texts[start : start + 500])).last_hidden_state.half()
        for start in range(0, len(texts), 500)
    ]
    return torch.cat(parts).clone(), torch.tensor([places[text] for text in captions])
