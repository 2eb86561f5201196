"""The autoencoder's training: drawings in, the same drawings out, through a sixteenth of their area."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import diffusers
import numpy as np
import torch
from torch.nn import functional

from training.canvas import SIDE
from training.loop import Plan, load_average, train
from training.model import LATENT_CHANNELS, make_autoencoder
from training.pool import load_pictures
from training.thumbnail import start_as_thumbnail

PLAN = Plan("autoencoder", steps=1200, rate=2e-3, warmup=20, cooling=700, decay=0.99, save_every=100)

DECODER_PLAN = Plan("decoder", steps=1000, rate=1e-3, warmup=20, cooling=900, decay=0.99)

_BATCH = 4  # of each core
_CROP = 32  # pixels: four times as many steps in the same time
_ENCODED_AT_ONCE = 250
_KL = 2e-4
_EDGES = 1.0
_ERROR = 0.05  # how far a denoised latent may be from a true one, in deviations


def train_autoencoder(work: Path, *, seed: int, cores: int) -> None:
    """Train it to the end of its plan."""
    pictures = load_pictures(work)

    def loss_of(model: torch.nn.Module, random: torch.Generator) -> torch.Tensor:
        chosen = torch.randint(len(pictures), (_BATCH,), generator=random).sort().values.numpy()
        top, left = torch.randint(SIDE - _CROP + 1, (2,), generator=random).tolist()
        crops = pictures[chosen][:, top : top + _CROP, left : left + _CROP]
        target = as_tensor(crops).contiguous(memory_format=torch.channels_last)
        posterior = model.encode(target).latent_dist  # type: ignore[operator]
        noise = torch.randn(posterior.mean.shape, generator=random)
        output = model.decode(posterior.mean + posterior.std * noise).sample  # type: ignore[operator]
        kl = 0.5 * (posterior.mean**2 + posterior.var - 1 - posterior.logvar).mean()
        loss: torch.Tensor = _unlikeness(output, target) + _KL * kl
        return loss

    torch.manual_seed(seed)
    model = make_autoencoder()
    start_as_thumbnail(model)
    model = model.to(memory_format=torch.channels_last)
    train(model, loss_of, PLAN, work, seed=seed, cores=cores)


def encode_pool(work: Path, *, cores: int) -> None:
    """The whole training set as latents, with the mean and the deviation of each of their channels."""
    path = work / "latents.pt"
    if path.exists():
        return
    torch.set_num_threads(1)
    model = load_average(make_autoencoder(), work, PLAN.name)
    pictures = load_pictures(work)

    @torch.inference_mode()
    def encode(start: int) -> torch.Tensor:
        batch = as_tensor(pictures[start : start + _ENCODED_AT_ONCE])
        return model.encode(batch).latent_dist.mean.half()  # type: ignore[operator, no-any-return]

    with ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        parts = list(pool.map(encode, range(0, len(pictures), _ENCODED_AT_ONCE)))
    latents = torch.cat(parts).clone()
    some = latents[:4000].float()
    torch.save({"latents": latents, "mean": some.mean(dim=(0, 2, 3)), "deviation": some.std(dim=(0, 2, 3))}, path)


def train_decoder(work: Path, *, seed: int, cores: int) -> None:
    """Train the decoder further, on whole pictures and latents as a denoiser makes them: never quite right."""
    pictures, latents = load_pictures(work), load_latents(work)

    def loss_of(model: torch.nn.Module, random: torch.Generator) -> torch.Tensor:
        chosen = torch.randint(len(pictures), (_BATCH,), generator=random).sort().values
        clean = latents[chosen].float()
        error = _ERROR * torch.randn(clean.shape, generator=random)
        target = as_tensor(pictures[chosen.numpy()]).contiguous(memory_format=torch.channels_last)
        return _unlikeness(model.decode(clean + error).sample, target)  # type: ignore[operator]

    torch.manual_seed(seed)
    model = load_level_autoencoder(work).to(memory_format=torch.channels_last)
    train(model, loss_of, DECODER_PLAN, work, seed=seed, cores=cores)


def load_autoencoder(work: Path) -> diffusers.AutoencoderKL:
    """The trained autoencoder, whose latents have mean 0 and deviation 1 in each channel."""
    model = make_autoencoder()
    load_average(model, work, DECODER_PLAN.name)
    model.register_to_config(scaling_factor=1.0, force_upcast=False)
    return model


def load_latents(work: Path) -> torch.Tensor:
    """The training set's latents, each channel of mean 0 and deviation 1."""
    saved = torch.load(work / "latents.pt", weights_only=True)
    mean, deviation = (saved[name][:, None, None] for name in ("mean", "deviation"))
    latents: torch.Tensor = ((saved["latents"].float() - mean) / deviation).half()
    return latents


@torch.no_grad()
def load_level_autoencoder(work: Path) -> diffusers.AutoencoderKL:
    """The autoencoder as its first training left it, but for latents of mean 0 and deviation 1."""
    model = make_autoencoder()
    load_average(model, work, PLAN.name)
    saved = torch.load(work / "latents.pt", weights_only=True)
    mean, deviation = saved["mean"], saved["deviation"]
    quant, post_quant = model.quant_conv, model.post_quant_conv
    means, log_variances = slice(LATENT_CHANNELS), slice(LATENT_CHANNELS, None)
    quant.weight[means] /= deviation[:, None, None, None]
    quant.bias[means] = (quant.bias[means] - mean) / deviation
    quant.bias[log_variances] -= 2 * deviation.log()
    post_quant.bias += post_quant.weight[:, :, 0, 0] @ mean
    post_quant.weight *= deviation[:, None, None]
    return model


def as_tensor(pictures: np.ndarray) -> torch.Tensor:
    """Pictures as the autoencoder takes them: from -1 to 1, colours first."""
    return torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous()


def _unlikeness(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """How far pictures are from what they should be."""
    tones = functional.l1_loss(output, target) + functional.mse_loss(output, target)
    return tones + _EDGES * _edge_loss(output, target)


def _edge_loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """How far the steps between neighbouring pixels differ: blur costs more than a slightly wrong tone."""
    down = functional.l1_loss(output.diff(dim=2), target.diff(dim=2))
    return down + functional.l1_loss(output.diff(dim=3), target.diff(dim=3))
