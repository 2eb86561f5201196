"""The autoencoder's training: drawings in, the same drawings out, through a sixteenth of their area."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from training.loop import Plan, load_average, train
from training.model import make_autoencoder
from training.pool import load_pictures

PLAN = Plan("autoencoder", steps=1000, rate=1.5e-3, warmup=50, cooling=400, decay=0.99, save_every=50)

_BATCH = 4  # of each core
_ENCODED_AT_ONCE = 250
_KL = 2e-4
_EDGES = 1.0


def train_autoencoder(work: Path, *, seed: int, cores: int) -> None:
    """Train it to the end of its plan."""
    pictures = load_pictures(work)

    def loss_of(model: torch.nn.Module, random: torch.Generator) -> torch.Tensor:
        chosen = torch.randint(len(pictures), (_BATCH,), generator=random).sort().values.numpy()
        target = as_tensor(pictures[chosen])
        posterior = model.encode(target).latent_dist  # type: ignore[operator]
        noise = torch.randn(posterior.mean.shape, generator=random)
        output = model.decode(posterior.mean + posterior.std * noise).sample  # type: ignore[operator]
        kl = 0.5 * (posterior.mean**2 + posterior.var - 1 - posterior.logvar).mean()
        return (
            functional.l1_loss(output, target)
            + functional.mse_loss(output, target)
            + _EDGES * _edge_loss(output, target)
            + _KL * kl
        )

    torch.manual_seed(seed)
    train(make_autoencoder(), loss_of, PLAN, work, seed=seed, cores=cores)


def encode_pool(work: Path, *, cores: int) -> None:
    """The whole training set as latents of mean 0 and deviation 1, with the factor that makes them so."""
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
    torch.save({"latents": latents, "deviation": latents[:4000].float().std()}, path)


def as_tensor(pictures: np.ndarray) -> torch.Tensor:
    """Pictures as the autoencoder takes them: from -1 to 1, colours first."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous()


def _edge_loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """How far the steps between neighbouring pixels differ: blur costs more than a slightly wrong tone."""
    down = functional.l1_loss(output.diff(dim=2), target.diff(dim=2))
    return down + functional.l1_loss(output.diff(dim=3), target.diff(dim=3))
