"""Shortcuts: what each leaves out, that it shows in the picture, and who may take it."""

import json

import diffusers
import numpy as np
import pytest
import torch

from actors.metadata import read_metadata
from actors.models import diffusion
from actors.models.facts import describe_model
from actors.models.loading import load_model
from actors.models.settings import ModelSettings
from actors.models.shortcuts import FP8
from actors.models.tiny import tiny_folder
from actors.models.trust import weights_sha256
from actors.worker import Worker
from lanes import make_batch, make_order, make_recipe, make_request
from miniatures import dits
from painting import load, made, own_pipeline, painted, recipe_of, refused

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)  # in diffusers' schedulers
STEPS = 6
REQUESTS = [make_request("a red fox", 1, steps=STEPS), make_request("a lighthouse", 2, row=1, steps=STEPS)]


@pytest.fixture(scope="module")
def flux(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flux") / "dev"
    diffusers.FluxPipeline(**dits.flux(distilled_in_steps=False)).save_pretrained(str(folder))
    return folder


@pytest.fixture
def calls(monkeypatch):
    """How many images went through each module, by its class, call by call."""
    seen = {}
    hook = torch.nn.modules.module.register_module_forward_hook(
        lambda module, _, output: seen.setdefault(type(module).__name__, []).append(_images(output))
    )
    yield seen
    hook.remove()


def _images(output):
    first = output[0] if isinstance(output, tuple) else output
    return len(first) if isinstance(first, torch.Tensor) else None


def recorded(folder, **settings):
    """The recipes in the rows of a small shard."""
    recipe = make_recipe(folder, ["a fox", "an owl"], width=64, height=64, num_inference_steps=STEPS, **settings)
    *_, report = Worker(recipe, "w0").run(make_order(2))
    return [json.loads(row) for row in read_metadata(report.metadata).table["recipe"].to_pylist()]


def test_deepcache_computes_the_deeper_layers_in_every_third_step_alone(calls):
    model = load(tiny_folder(), shortcuts={"cache": {"kind": "deepcache"}})
    calls.clear()

    pixels = model.generate(make_batch(*REQUESTS)).pixels

    unet = model._pipeline.unet
    assert len(calls["UNet2DConditionModel"]) == STEPS
    attending = sum(isinstance(module, diffusers.models.Transformer2DModel) for module in unet.modules())
    assert len(calls["Transformer2DModel"]) == 2 * attending  # none of them in the outermost layer
    assert (pixels != made(tiny_folder(), REQUESTS)).any()
    np.testing.assert_array_equal(pixels, model.generate(make_batch(*REQUESTS)).pixels)  # nothing is left of before
    np.testing.assert_array_equal(pixels[1:], model.generate(make_batch(REQUESTS[1], size=2)).pixels)
    assert recipe_of(model) == {"shortcuts": {"cache": {"kind": "deepcache", "interval": 3}}}


def test_a_cache_that_is_never_used_changes_no_byte():
    few = [make_request("a red fox", 1, steps=1)]

    pixels = made(tiny_folder(), few, shortcuts={"cache": {"kind": "deepcache", "interval": 50}})

    np.testing.assert_array_equal(pixels, made(tiny_folder(), few))


@pytest.mark.parametrize(("interval", "guided"), [([0, 0.5], 3), ([0.5, 1], 3), ([0.2, 0.8], 3), ([0, 1], 6)])
def test_guidance_outside_its_interval_costs_no_pass_without_the_prompt(calls, interval, guided):
    model = load(tiny_folder(), shortcuts={"guidance_interval": interval})
    calls.clear()

    model.generate(make_batch(*REQUESTS))

    # The hook sees what is handed out, which is two of each; the blocks within see what is computed.
    assert calls["UNetMidBlock2DCrossAttn"].count(4) == guided
    assert calls["UNetMidBlock2DCrossAttn"].count(2) == STEPS - guided


def test_guidance_that_ends_early_is_what_diffusers_documents_for_it():
    pipeline = own_pipeline(tiny_folder())

    def stop(pipe, step, _timestep, given):
        if step == 2:
            pipe._guidance_scale = 0.0
            given["prompt_embeds"] = given["prompt_embeds"].chunk(2)[1]
        return given

    expected = painted(
        pipeline, REQUESTS, callback_on_step_end=stop, callback_on_step_end_tensor_inputs=["prompt_embeds"]
    )

    pixels = made(tiny_folder(), REQUESTS, shortcuts={"guidance_interval": [0, 0.5]})

    assert abs(pixels.astype(int) - expected).max() <= 1
    assert abs(pixels.astype(int) - made(tiny_folder(), REQUESTS)).max() > 1


def test_an_interval_that_is_everything_changes_no_byte():
    pixels = made(tiny_folder(), REQUESTS, shortcuts={"guidance_interval": [0, 1]})

    np.testing.assert_array_equal(pixels, made(tiny_folder(), REQUESTS))


def test_without_guidance_there_is_nothing_to_leave_out():
    unguided = [make_request("a red fox", 1, steps=STEPS, guidance=1.0)]

    pixels = made(tiny_folder(), unguided, shortcuts={"guidance_interval": [0, 0.5]})

    np.testing.assert_array_equal(pixels, made(tiny_folder(), unguided))


@pytest.mark.parametrize("part", ["sd3", "sana", "pixart"])
def test_transformers_that_guide_in_one_batch_can_leave_it_out(tmp_path, part):
    parts, kind = {
        "sd3": (lambda: dits.stable_diffusion_3(dual_attention_layers=()), "StableDiffusion3Pipeline"),
        "sana": (dits.sana, "SanaPipeline"),
        "pixart": (dits.pixart_sigma, "PixArtSigmaPipeline"),
    }[part]
    folder = tmp_path / part
    getattr(diffusers, kind)(**parts()).save_pretrained(str(folder))
    requests = [make_request("a red fox", 1, steps=4, guidance=4.5)]

    whole, none = (made(folder, requests, shortcuts={"guidance_interval": of}) for of in ([0, 1], [0.99, 1]))

    np.testing.assert_array_equal(whole, made(folder, requests))
    unguided = [make_request("a red fox", 1, steps=4, guidance=1.0)]
    assert abs(none.astype(int) - made(folder, unguided)).max() <= 1
    assert (none != whole).any()


@pytest.mark.parametrize(
    ("cache", "attended"),
    [
        ({"kind": "taylorseer", "interval": 3}, 5),  # the first three steps and every third one from there
        ({"kind": "first_block", "threshold": 0.99}, 6),
    ],
)
def test_a_transformers_cache_leaves_out_what_it_can_foresee(flux, calls, cache, attended):
    requests = [make_request("a red fox", 1, steps=8)]
    model = load(flux, batch_size=1, shortcuts={"cache": cache})
    calls.clear()

    pixels = model.generate(make_batch(*requests)).pixels

    assert len(calls["FluxTransformer2DModel"]) == 8
    assert (pixels != made(flux, requests)).any()
    np.testing.assert_array_equal(pixels, model.generate(make_batch(*requests)).pixels)
    assert recipe_of(model) == {"shortcuts": {"cache": cache}}


def test_int8_multiplies_in_the_blocks_and_shows(monkeypatch, tmp_path):
    torchao = pytest.importorskip("torchao.quantization", reason="the extra `fast` brings torchao")
    monkeypatch.setattr(diffusion, "compile_blocks", lambda _: {"compile": "blocks"})
    settings = {"compile": True, "shortcuts": {"quantization": "int8"}}
    model = load(tiny_folder(), **settings)

    pixels = model.generate(make_batch(*REQUESTS)).pixels.astype(int)

    linear = [module for module in model._pipeline.unet.modules() if isinstance(module, torch.nn.Linear)]
    assert any(type(module.weight) is not torch.nn.Parameter for module in linear)
    assert 0 < abs(pixels - made(tiny_folder(), REQUESTS)).mean() < 8
    assert recipe_of(model) == {"compile": "blocks", "shortcuts": {"quantization": "int8"}}
    assert torchao


@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_8_bits_without_their_library_say_how_to_get_it(monkeypatch, kind):
    monkeypatch.setitem(__import__("sys").modules, "torchao", None)

    ((code, message),) = refused(tiny_folder(), compile=True, shortcuts={"quantization": kind})

    assert (code, "torchao" in message) == ("LM1225", True)


def test_fp8_is_refused_where_no_device_multiplies_in_it():
    pytest.importorskip("torchao", reason="the extra `fast` brings torchao")

    ((code, message),) = refused(tiny_folder(), compile=True, shortcuts={"quantization": "fp8"})

    assert (code, "GPU" in message) == ("LM1225", True)


def test_fp8_is_made_of_bfloat16_alone():
    ((code, message),) = refused(tiny_folder(), compile=True, dtype="float16", shortcuts={"quantization": "fp8"})

    assert (code, "bfloat16" in message) == ("LM1225", True)


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")  # torch's own
@pytest.mark.skipif(
    not torch.cuda.is_available() or torch.cuda.get_device_capability() < FP8, reason="no GPU with fp8 is here"
)
def test_fp8_multiplies_in_the_blocks_and_shows():
    pytest.importorskip("torchao", reason="the extra `fast` brings torchao")
    settings = ModelSettings(model=str(tiny_folder()), compile=True, shortcuts={"quantization": "fp8"})

    pixels = load_model(settings).generate(make_batch(*REQUESTS)).pixels.astype(int)

    assert 0 < abs(pixels - made(tiny_folder(), REQUESTS)).mean() < 8


def test_a_tiny_vae_takes_the_place_of_a_large_one(tmp_path):
    torch.manual_seed(0)
    channels = {"encoder_block_out_channels": (8,) * 4, "decoder_block_out_channels": (8,) * 4}
    vae = diffusers.AutoencoderTiny(**channels, num_encoder_blocks=(1,) * 4, num_decoder_blocks=(1,) * 4)
    vae.save_pretrained(tmp_path / "taesd")
    pipeline = own_pipeline(tiny_folder())
    pipeline.vae = vae.eval()

    model = load(tiny_folder(), vae=str(tmp_path / "taesd"))
    images = model.generate(make_batch(*REQUESTS))

    np.testing.assert_array_equal(images.pixels, painted(pipeline, REQUESTS))
    assert images.finite == (True, True)
    assert recipe_of(model)["vae"]["sha256"] == weights_sha256(tmp_path / "taesd")


def test_each_row_says_which_shortcuts_were_taken(tmp_path):
    said = {"guidance_interval": [0.2, 0.8]}

    assert recorded(tmp_path, model="tiny", shortcuts=said) == [{"shortcuts": said}] * 2


@pytest.mark.parametrize(
    ("model", "settings", "said"),
    [
        ("flux-1-dev", {"cache": {"kind": "deepcache"}}, "has no cache of this kind.*use taylorseer or first_block"),
        ("stable-diffusion-2-1", {"cache": {"kind": "taylorseer"}}, "has no cache of this kind.*use deepcache"),
        ("sana", {"cache": {"kind": "deepcache"}}, "has no cache of this kind.*leave it out"),
        ("flux-1-dev", {"cache": {"kind": "first_block"}}, "would depend on its neighbours.*batch_size: 1"),
        ("flux-1-dev", {"guidance_interval": [0, 0.5]}, "no guidance that can be left out"),
        ("stable-diffusion-xl", {"cache": {"kind": "deepcache"}, "guidance_interval": [0, 0.5]}, "this or the cache"),
        ("stable-diffusion-xl", {"quantization": "int8"}, "slower than none.*compile: true"),
        ("fake", {"quantization": "int8"}, "no layers"),
    ],
)
def test_a_plan_refuses_what_would_not_work(model, settings, said):
    with pytest.raises(Exception, match=f"(?s)LM1225.*{said}"):
        describe_model(ModelSettings(model=model, shortcuts=settings))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"cache": {"kind": "deepcache", "threshold": 0.1}}, "without threshold: deepcache has none"),
        ({"cache": {"kind": "first_block", "interval": 3}}, "without interval: first_block has none"),
        ({"cache": {"kind": "deepcache", "interval": 1}}, "greater than or equal to 2"),
        ({"guidance_interval": [0.8, 0.2]}, "a share of the steps and a later one"),
        ({"guidance_interval": [0.2, 1.8]}, "less than or equal to 1"),
        ({"quantization": "int4"}, "int8"),
        ({"turbo": True}, "Extra inputs"),
    ],
)
def test_a_shortcut_that_makes_no_sense_is_no_setting(settings, said):
    with pytest.raises(ValueError, match=said):
        ModelSettings(model="demo", shortcuts=settings)
