"""What the trained parts are joined to: two folders that diffusers loads. The weights here have learned nothing."""

import dataclasses

import diffusers
import numpy as np
import pytest
import torch

from training import autoencoder, captions, denoiser, text
from training.autoencoder import as_tensor, load_autoencoder
from training.canvas import SIDE
from training.captions import KINDS, held_out_scenes
from training.denoiser import PREDICTIONS, load_denoiser
from training.drawings import draw
from training.evaluate import paint
from training.export import export
from training.model import LATENT_CHANNELS, make_autoencoder, make_denoiser
from training.thumbnail import start_as_thumbnail
from training.tokenizer import write_tokenizer


@pytest.fixture(scope="module")
def drawings():
    random = np.random.default_rng(0)
    return np.stack([draw(scene, random) for kind in KINDS for scene in held_out_scenes(kind, 4)])


@pytest.fixture(scope="module")
def work(tmp_path_factory, drawings):
    """A training's folder on its first day."""
    folder = tmp_path_factory.mktemp("work")
    torch.manual_seed(0)
    vocabulary = write_tokenizer(folder / "tokenizer", captions.words())
    model = make_autoencoder()
    start_as_thumbnail(model)
    parts = {
        autoencoder.PLAN.name: model,
        denoiser.PLAN.name: make_denoiser(variants=len(PREDICTIONS)),
        text.PLAN.name: text.Reader(vocabulary),
    }
    for name, part in parts.items():
        torch.save({"average": part.state_dict()}, folder / f"{name}.pt")
    np.save(folder / "pictures.npy", drawings)
    autoencoder.encode_pool(folder, cores=1)
    level = autoencoder.load_level_autoencoder(folder)
    torch.save({"average": level.state_dict()}, folder / f"{autoencoder.DECODER_PLAN.name}.pt")
    return folder


def test_colours_pass_through_an_untrained_autoencoder(drawings):
    torch.manual_seed(0)
    model = make_autoencoder()
    start_as_thumbnail(model)
    flat = as_tensor(np.broadcast_to(drawings[:, :1, :1], drawings.shape))

    with torch.inference_mode():
        output = model.decode(model.encode(flat).latent_dist.mean).sample

    alike = np.corrcoef(output[:, :, 32, 32].flatten(), flat[:, :, 32, 32].flatten())[0, 1]
    assert alike > 0.7


def test_level_latents_have_mean_0_and_deviation_1_and_decode_to_the_same(work, drawings):
    raw = make_autoencoder()
    raw.load_state_dict(torch.load(work / "autoencoder.pt", weights_only=True)["average"])
    level = load_autoencoder(work)
    pictures = as_tensor(drawings)

    with torch.inference_mode():
        before = raw.decode(raw.encode(pictures).latent_dist.mean).sample
        latents = level.encode(pictures).latent_dist
        after = level.decode(latents.mean).sample

    assert level.config.scaling_factor == 1
    assert latents.mean.mean(dim=(0, 2, 3)).abs().max() < 0.01
    assert (latents.mean.std(dim=(0, 2, 3)) - 1).abs().max() < 0.01
    assert (latents.mean - autoencoder.load_latents(work).float()).abs().max() < 0.05
    assert torch.allclose(before, after, atol=1e-3)


def test_each_variant_has_its_own_last_layer_on_the_same_trunk(work):
    both = torch.load(work / "denoiser.pt", weights_only=True)["average"]
    one, other = (load_denoiser(work, prediction).state_dict() for prediction in PREDICTIONS)

    assert {name for name in one if not torch.equal(one[name], other[name])} == {"conv_out.weight", "conv_out.bias"}
    assert torch.equal(torch.cat([one["conv_out.weight"], other["conv_out.weight"]]), both["conv_out.weight"])
    assert len(one["conv_out.bias"]) == LATENT_CHANNELS


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # within diffusers' DPM scheduler
def test_both_folders_load_draw_and_are_small(work, tmp_path):
    size = 0
    for prediction in PREDICTIONS:
        folder = tmp_path / prediction
        export(work, prediction, folder)
        size += sum(file.stat().st_size for file in folder.rglob("*.safetensors"))
        pipeline = diffusers.StableDiffusionPipeline.from_pretrained(
            str(folder), local_files_only=True, dtype=torch.float32
        )
        assert pipeline.scheduler.config.prediction_type == prediction
        assert paint(pipeline, ["a red star on a white background"], steps=2).shape == (1, SIDE, SIDE, 3)
    assert size <= 12_000_000


def test_the_decoder_learns_on_and_the_encoder_stays(work, monkeypatch):
    plan = dataclasses.replace(autoencoder.DECODER_PLAN, name="more", steps=2, warmup=1, cooling=1)
    monkeypatch.setattr(autoencoder, "DECODER_PLAN", plan)

    autoencoder.train_decoder(work, seed=1, cores=2)

    before = torch.load(work / "decoder.pt", weights_only=True)["average"]
    after = torch.load(work / "more.pt", weights_only=True)["model"]
    changed = {name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"decoder", "post_quant_conv"}
