"""`python -m training WORK` trains the demo's model; see README.md beside this file."""

import argparse
from pathlib import Path

import diffusers
import torch

from training.autoencoder import encode_pool, train_autoencoder, train_decoder
from training.captions import KINDS, caption, held_out_scenes
from training.denoiser import train_denoiser
from training.evaluate import grid, paint, report
from training.export import FOLDERS, export
from training.pool import make_pool
from training.text import train_text

_STAGES = {
    "prepare": "draw the training set, train the text model and the autoencoder",
    "denoise": "train the denoiser",
    "export": "write the two folders",
}


def main() -> None:
    """Parse the command line and do what it says."""
    parser = argparse.ArgumentParser(prog="python -m training", description="The demo's model, from nothing.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cores", type=int, default=2)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in _STAGES.items():
        commands.add_parser(name, help=text).add_argument("work", type=Path)
    measure = commands.add_parser("evaluate", help="measure a folder on held-out captions")
    measure.add_argument("folder", type=Path)
    measure.add_argument("--count", type=int, default=500)
    measure.add_argument("--kinds", nargs="+", default=[kind for kind in KINDS if kind != "scenery"])
    measure.add_argument("--steps", type=int, default=20)
    measure.add_argument("--guidance", type=float, default=3.0)
    measure.add_argument("--grid", type=Path, help="draw 16 held-out captions of each kind there instead")
    chosen = parser.parse_args()
    {"prepare": _prepare, "denoise": _denoise, "export": _export, "evaluate": _evaluate}[chosen.command](chosen)


def _prepare(chosen: argparse.Namespace) -> None:
    chosen.work.mkdir(parents=True, exist_ok=True)
    make_pool(chosen.work, seed=chosen.seed, processes=chosen.cores)
    train_text(chosen.work, seed=chosen.seed, cores=chosen.cores)
    train_autoencoder(chosen.work, seed=chosen.seed, cores=chosen.cores)
    encode_pool(chosen.work, cores=chosen.cores)
    train_decoder(chosen.work, seed=chosen.seed, cores=chosen.cores)


def _denoise(chosen: argparse.Namespace) -> None:
    train_denoiser(chosen.work, seed=chosen.seed, cores=chosen.cores)


def _export(chosen: argparse.Namespace) -> None:
    for prediction, folder in FOLDERS.items():
        export(chosen.work, prediction, folder)


def _evaluate(chosen: argparse.Namespace) -> None:
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(
        str(chosen.folder), local_files_only=True, dtype=torch.float32
    )
    if chosen.grid:
        scenes = [scene for kind in KINDS for scene in held_out_scenes(kind, 16)]
        pictures = paint(pipeline, list(map(caption, scenes)), steps=chosen.steps, guidance=chosen.guidance)
        grid(pictures, chosen.grid)
        return
    counts = dict.fromkeys(chosen.kinds, chosen.count)
    for line in report(pipeline, counts, steps=chosen.steps, guidance=chosen.guidance):
        print(line, flush=True)


if __name__ == "__main__":
    main()
