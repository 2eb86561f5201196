"""Pickles run nothing: they are read with permission and the right hash, as tensors alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from checkpoints import save_checkpoint
from painting import made, refused, trusted
from pipelines import copy_of_tiny


class Canary:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".bin", ".CKPT", ".model", ".SAFETENSORS", ""])
def test_a_pickle_that_runs_code_runs_none(checkpoints, tmp_path, suffix):
    _, folders = checkpoints
    canary, file = tmp_path / "canary", tmp_path / f"evil{suffix}"
    save_checkpoint(folders["sd1"], tmp_path / "evil.ckpt", evil=Canary(canary))
    (tmp_path / "evil.ckpt").rename(file)
    config = str(folders["sd1"])

    assert refused(file, config=config)[0][0] == "LM1204"
    assert refused(file, config=config, allow_pickle=True)[0][0] == "LM1204"
    assert refused(file, config=config, **trusted(file))[0] == (
        "LM1204",
        f"evil{suffix} holds more than tensors, and is not loaded",
    )
    assert not canary.exists()
    torch.load(file, weights_only=False)  # to see that it would
    assert canary.exists()


@pytest.fixture(scope="module")
def pickled(tmp_path_factory, folder):
    """`tiny` with a UNet in a pickle, as many older models are."""
    copy = copy_of_tiny(folder, tmp_path_factory.mktemp("models") / "pickled")
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    return copy


def test_a_folder_of_pickles_needs_permission_and_a_hash(pickled, folder):
    assert refused(pickled)[0][0] == "LM1204"
    assert refused(pickled, allow_pickle=True)[0][0] == "LM1204"

    np.testing.assert_array_equal(made(pickled, **trusted(pickled)), made(folder))


def test_a_pickle_in_a_folder_that_runs_code_runs_none(pickled, tmp_path):
    copy = copy_of_tiny(pickled, tmp_path / "evil")
    canary, weights = tmp_path / "canary", copy / "unet" / "diffusion_pytorch_model.bin"
    torch.save({**torch.load(weights, weights_only=True), "evil": Canary(canary)}, weights)

    assert refused(copy, **trusted(copy))[0][0] == "LM1206"
    assert not canary.exists()


def test_another_file_than_the_job_names_is_not_read(checkpoints, folder):
    place, folders = checkpoints
    others = {"allow_pickle": True, "sha256": "0" * 64}

    assert refused(place / "sd1.ckpt", config=str(folders["sd1"]), **others)[0][0] == "LM1220"
    assert refused(folder, sha256="0" * 64)[0][0] == "LM1220"
    assert refused("tiny", vae={"model": str(folder / "vae"), "sha256": "0" * 64})[0][0] == "LM1220"
