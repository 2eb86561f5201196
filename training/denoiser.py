"""The denoiser's training, in both parameterisations at once: one trunk, and a last layer for either.

What a step predicts is the noise, or the velocity. The two say the same, but teach differently: velocity asks for the
picture even where hardly anything but noise is left, so words are learned early; noise asks for fine edges.
"""

from pathlib import Path

import diffusers
import torch

from training.autoencoder import load_latents
from training.loop import Plan, load_average, train
from training.model import LATENT_CHANNELS, LATENT_SIDE, NOISE, make_denoiser
from training.pool import load_captions
from training.text import load_text_encoder, load_tokenizer, tokenize

PREDICTIONS = ("epsilon", "v_prediction")
PLAN = Plan("denoiser", steps=20000, rate=1.2e-3, warmup=200, cooling=6000, decay=0.998, weight_decay=0.01)

_BATCH = 8  # of each core
_UNCAPTIONED = 0.1
_GAMMA = 5.0


def train_denoiser(work: Path, *, seed: int, cores: int) -> None:
    """Train it to the end of its plan."""
    latents = load_latents(work)
    states, numbers = _read(work)
    noise = diffusers.DDPMScheduler(**NOISE)
    signal = noise.alphas_cumprod

    def loss_of(model: torch.nn.Module, random: torch.Generator) -> torch.Tensor:
        chosen = torch.randint(len(latents), (_BATCH,), generator=random)
        clean = latents[chosen].float()
        drop = torch.rand(_BATCH, generator=random) < _UNCAPTIONED
        words = states[torch.where(drop, 0, numbers[chosen])].float()
        step = torch.randint(len(signal), (_BATCH,), generator=random)
        added = torch.randn(_BATCH, LATENT_CHANNELS, LATENT_SIDE, LATENT_SIDE, generator=random)
        targets = {"epsilon": added, "v_prediction": noise.get_velocity(clean, added, step)}
        output = model(noise.add_noise(clean, added, step), step, words, return_dict=False)[0]
        ratio = signal[step] / (1 - signal[step])
        losses = [
            ((output[:, _channels(name)] - targets[name]).square().mean(dim=(1, 2, 3)) * _weight(ratio, name)).mean()
            for name in PREDICTIONS
        ]
        return torch.stack(losses).sum()

    torch.manual_seed(seed)
    model = make_denoiser(variants=len(PREDICTIONS)).to(memory_format=torch.channels_last)
    train(model, loss_of, PLAN, work, seed=seed, cores=cores)


def load_denoiser(work: Path, prediction: str) -> diffusers.UNet2DConditionModel:
    """The trained denoiser with the last layer of one variant alone."""
    both = make_denoiser(variants=len(PREDICTIONS))
    load_average(both, work, PLAN.name)
    state = both.state_dict()
    for name in ("conv_out.weight", "conv_out.bias"):
        state[name] = state[name][_channels(prediction)].clone()
    model = make_denoiser()
    model.load_state_dict(state)
    return model.eval()


def _channels(prediction: str) -> slice:
    """Which of the last layer's channels are this variant's."""
    start = PREDICTIONS.index(prediction) * LATENT_CHANNELS
    return slice(start, start + LATENT_CHANNELS)


def _weight(ratio: torch.Tensor, prediction: str) -> torch.Tensor:
    """How much a step counts, by its ratio of signal to noise.

    Steps that add little noise teach little, so their share is capped (min-SNR). Noise predicted where little else is
    left counts more than its small error would have it.
    """
    if prediction == "v_prediction":
        return (ratio + 1).clamp(max=_GAMMA) / (ratio + 1)
    return (_GAMMA / ratio).clamp(max=1) * (1 + 0.1 / ratio).clamp(max=10)


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
    return torch.cat(parts), torch.tensor([places[text] for text in captions])
