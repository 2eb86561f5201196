"""How a pipeline is run on a GPU. Settings are looked at, and what they change is computed on the CPU."""

from types import SimpleNamespace

import diffusers
import pytest
import torch

from actors.models import tuning
from actors.models.tiny import tiny_folder
from actors.models.tuning import tune
from painting import own_pipeline, painted

GPU = torch.device("cuda")


@pytest.fixture
def capability(monkeypatch):
    """Of a GPU that is not there."""

    def is_(*numbers):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: numbers)

    order = torch._C._get_sdp_priority_order()
    yield is_
    tuning.for_good.close()
    assert torch._C._get_sdp_priority_order() == order


@pytest.fixture
def pipeline():
    return own_pipeline(tiny_folder())


def kernel(pipeline, part):
    return next(parameter for parameter in getattr(pipeline, part).parameters() if parameter.ndim == 4)


def test_convolutions_of_a_gpu_run_with_channels_last_and_change_pictures_by_rounding(pipeline, capability):
    capability(8, 0)
    before = painted(pipeline).astype(int)

    said = tune(pipeline, GPU)

    assert said["tuning"]["channels_last"] == ["unet", "vae"]
    for part in ("unet", "vae"):
        assert kernel(pipeline, part).is_contiguous(memory_format=torch.channels_last)
    assert abs(painted(pipeline).astype(int) - before).max() <= 1


@pytest.mark.parametrize(("numbers", "attention"), [((8, 9), None), ((9, 0), "cudnn"), ((10, 0), "cudnn")])
def test_attention_is_that_of_cudnn_where_it_is_the_fastest(pipeline, capability, numbers, attention):
    capability(*numbers)
    before = torch._C._get_sdp_priority_order()

    assert tune(pipeline, GPU)["tuning"].get("attention") == attention

    first, *others = torch._C._get_sdp_priority_order()
    assert (first == int(tuning.CUDNN_ORDER[0])) == (attention == "cudnn")
    assert set(before) == {first, *others}  # what it does not take has somewhere to go


def test_on_a_cpu_nothing_is_done(pipeline):
    strides = kernel(pipeline, "unet").stride()

    assert tune(pipeline, torch.device("cpu")) == {}

    assert kernel(pipeline, "unet").stride() == strides


def test_a_vae_that_was_made_for_films_is_left_as_it_is(capability):
    capability(8, 0)
    vae = diffusers.AutoencoderKLQwenImage(base_dim=8, num_res_blocks=1).to(torch.bfloat16)

    assert tune(SimpleNamespace(vae=vae, components={"vae": vae}), GPU) == {}


@pytest.mark.parametrize(("dtype", "said"), [(torch.float32, ["convolutions"]), (torch.bfloat16, None)])
def test_where_a_float32_is_rounded_is_recorded(pipeline, capability, dtype, said):
    capability(8, 0)
    assert torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32
    for part in ("unet", "vae", "text_encoder"):
        getattr(pipeline, part).to(dtype)

    assert tune(pipeline, GPU)["tuning"].get("tf32") == said
