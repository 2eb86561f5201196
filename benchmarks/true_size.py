"""A model at its true size: Stable Diffusion 2.1 with random weights, loaded and run on the CPU as a worker would.

`python -m benchmarks.true_size`. The structure is that of the config `sd2-v`, the weights are random numbers in
bfloat16 (2.5 GB, in the temporary folder while it runs). A fresh process loads them as float32 through `load_model` and
makes one picture of 512 x 512: how long loading takes, how long a step, and how much memory there is at most. The first
step is not counted, as it warms up. Needs 8 GiB of memory and 3 GB of disk.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import diffusers
import torch
import transformers

from actors.models.configs import assemble
from actors.models.folder import read_json
from actors.models.loading import load_model
from actors.models.settings import ModelSettings
from actors.models.tiny import tiny_folder
from actors.records import Batch
from actors.warmup import blank_request
from benchmarks.memory import peak_mib, resident_mib
from benchmarks.timing import print_table, write_results

CONFIG = Path(__file__).parent.parent / "actors" / "models" / "configs" / "sd2-v"
SIDE = 512
STEPS = 3
THREADS = 2
Clocks = tuple[float, float]
"""Seconds on the wall, and of the CPU: others on the machine, which the first shows, leave the second as it is."""


def save_at_true_size(folder: Path) -> None:
    """The pipeline of the config, part after part, so that never more than one is in memory."""
    # Its vocabulary stands in for CLIP's, which is too large to ship: as many tokens of a prompt, of other letters.
    assemble(CONFIG, tiny_folder() / "tokenizer", folder)
    with torch.device("meta"):
        text = transformers.CLIPTextModel(transformers.CLIPTextConfig.from_pretrained(str(folder / "text_encoder")))
        unet = diffusers.UNet2DConditionModel.from_config(read_json(folder / "unet" / "config.json"))
        vae = diffusers.AutoencoderKL.from_config(read_json(folder / "vae" / "config.json"))
    for name, part in (("text_encoder", text), ("unet", unet), ("vae", vae)):
        part.to(torch.bfloat16).to_empty(device="cpu")
        _fill(part)
        part.save_pretrained(str(folder / name))
        part.to("meta")


@torch.no_grad()
def _fill(part: torch.nn.Module) -> None:
    """Normal weights that keep a signal's variance, so that the picture is finite; biases of zero, norms of one."""
    random = torch.Generator().manual_seed(0)
    for name, parameter in part.named_parameters():
        if parameter.ndim > 1:
            parameter.normal_(0, parameter[0].numel() ** -0.5, generator=random)
        else:
            parameter.fill_(1 if name.endswith("weight") else 0)


def measure(folder: Path) -> dict[str, Any]:
    """Load it and make a picture: to be asked in a process that has done nothing else."""
    before = resident_mib()
    began = _clocks()
    model = load_model(
        ModelSettings(model=str(folder), dtype="float32", width=SIDE, height=SIDE), threads=THREADS, device="cpu"
    )
    loaded = _spent(began, _clocks())
    at_load = peak_mib(os.getpid())
    steps: list[Clocks] = []

    def note(module: torch.nn.Module, _inputs: object, _output: object) -> None:
        if isinstance(module, diffusers.UNet2DConditionModel):
            steps.append(_clocks())

    torch.nn.modules.module.register_module_forward_hook(note)
    info = model.info
    request = replace(blank_request(info), num_inference_steps=STEPS)
    began = _clocks()
    images = model.generate(Batch((request,), 1))
    assert images.finite == (True,)
    assert len(steps) == STEPS
    per_step = [median(spent) for spent in zip(*(_spent(*pair) for pair in pairwise(steps)), strict=True)]
    seconds = {"load": loaded, "step": per_step, "picture": _spent(began, _clocks())}
    return {
        "model": "Stable Diffusion 2.1, random weights",
        "size": f"{SIDE}x{SIDE}",
        "dtype": info.dtype,
        "threads": info.threads,
        "scheduler": info.scheduler,
        "steps": STEPS,
        **{f"{what}, seconds": wall for what, (wall, _) in seconds.items()},
        **{f"{what}, CPU seconds": cpu for what, (_, cpu) in seconds.items()},
        "MiB before loading": before,
        "peak MiB of loading": at_load,
        "peak MiB": peak_mib(os.getpid()),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
    }


def _clocks() -> Clocks:
    return time.perf_counter(), time.process_time()


def _spent(earlier: Clocks, later: Clocks) -> Clocks:
    return later[0] - earlier[0], later[1] - earlier[1]


def main() -> None:
    """Make the weights, measure in a process of its own, print and write down."""
    if len(sys.argv) > 1:
        print(json.dumps(measure(Path(sys.argv[1]))))
        return
    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory(prefix="lightmill-true-size-") as draft:
        folder = Path(draft) / "sd2-v"
        save_at_true_size(folder)
        files = sum(path.stat().st_size for path in folder.rglob("*.safetensors")) / 1e9
        command = [sys.executable, "-m", "benchmarks.true_size", str(folder)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    row = {**json.loads(done.stdout), "GB of weights": files}
    print_table([{"fact": name, "value": value} for name, value in row.items()])
    write_results("true_size", [row])


if __name__ == "__main__":
    main()
