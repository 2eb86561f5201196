"""Within a call of a pipeline the host waits for nothing on the device, whatever the scheduler.

The meta device stands for a GPU. Its tensors hold no numbers, so whatever would read one back fails, and every copy
from the host is seen, with whether it is waited for.
"""

import diffusers
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from actors.models.asynchrony import Asynchrony
from actors.models.loading import load_model
from actors.models.schedulers import PLAIN
from actors.models.settings import ModelSettings
from actors.models.tiny import tiny_folder
from lanes import make_batch, make_request
from miniatures.catalogue import DITS
from painting import own_pipeline
from pipelines import save_xl

META = torch.device("meta")
OFFERED = [name for name in PLAIN if name != "lms"]
"""LMS needs scipy, which is not installed. Other sigmas (Karras', exponential) are made before the first step."""
FAMILIES = {
    "sd3-medium": "StableDiffusion3Pipeline",
    "flux-dev": "FluxPipeline",
    "flux-2-klein": "Flux2KleinPipeline",
    "chroma": "ChromaPipeline",
    "pixart-sigma": "PixArtSigmaPipeline",
    "sana": "SanaPipeline",
    "qwen-image": "QwenImagePipeline",
    "z-image": "ZImagePipeline",
}

pytestmark = [  # of diffusers
    pytest.mark.filterwarnings("ignore:__array:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`FluxPosEmbed` is deprecated:FutureWarning"),
]


class Copies(TorchDispatchMode):
    """Counts the copies to the device that are waited for."""

    def __init__(self):
        super().__init__()
        self.blocking = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        if function is torch.ops.aten._to_copy.default and args[0].device.type == "cpu" and made.device == META:
            self.blocking += not (kwargs or {}).get("non_blocking")
        return made


def call(pipeline, side=32):
    """As for a batch of two, on whatever device it is: the images, and how many copies were waited for."""
    generators = [torch.Generator().manual_seed(n) for n in range(2)]
    size = {"height": side, "width": side}
    with torch.inference_mode(), Copies() as copies:
        images = pipeline(
            prompt=["a", "b"], num_inference_steps=3, generator=generators, output_type="pt", **size
        ).images
    return images, copies.blocking


def with_scheduler(name):
    scheduler, pipeline = PLAIN[name], own_pipeline(tiny_folder())
    scheduler_class = getattr(diffusers, scheduler.class_name)
    pipeline.scheduler = scheduler_class.from_config(pipeline.scheduler.config, **scheduler.options)
    return pipeline.to(META)


@pytest.mark.parametrize("name", OFFERED)
def test_no_scheduler_that_is_offered_waits_for_the_device(name):
    pipeline = with_scheduler(name)

    with Asynchrony(pipeline, META):
        images, blocking = call(pipeline)

    assert images.device == META
    assert blocking == 0


@pytest.mark.parametrize("name", ["ddim", "pndm", "lcm", "euler"])
def test_left_alone_they_do(name):
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        call(with_scheduler(name))


def test_two_text_encoders_are_not_waited_for_either(tmp_path):
    pipeline = own_pipeline(save_xl(tiny_folder(), tmp_path / "xl")).to(META)

    with Asynchrony(pipeline, META):
        assert call(pipeline)[1] == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_no_family_waits_for_the_device_while_it_denoises(family):
    """transformers reads the masks of the newer text encoders back, once a batch; all else comes after that."""
    pipeline = getattr(diffusers, FAMILIES[family])(**DITS[family]())
    pipeline.set_progress_bar_config(disable=True)
    own, encoded = pipeline.encode_prompt, []
    pipeline.encode_prompt = lambda *args, **kwargs: encoded.append(own(*args, **kwargs)) or encoded[-1]
    call(pipeline, side=64)
    pipeline.encode_prompt = lambda *_, **__: tree_map_only(
        torch.Tensor, lambda one: one.to(META, non_blocking=True), encoded.pop(0)
    )

    with Asynchrony(pipeline.to(META), META):
        images, blocking = call(pipeline, side=64)

    assert images.device == META
    assert blocking == 0


def test_what_goes_over_is_what_was_asked_for():
    number = torch.tensor(1.0)
    with Asynchrony(own_pipeline(tiny_folder()), META):
        assert number.to(META) is number
        for copy in (number.to(META, copy=True), number.to(META, torch.float32, False, True)):
            copy.add_(1)
        rows = torch.ones(2, 3).to(META, torch.float16, copy=True)
        image = torch.ones(1, 3, 4, 4).to(META, memory_format=torch.channels_last)

    assert number == 1
    assert (rows.device, rows.dtype, image.device) == (META, torch.float16, META)
    assert image.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is here")
@pytest.mark.parametrize("name", OFFERED)
def test_on_a_gpu_nothing_is_waited_for_but_the_end(name):
    model = load_model(ModelSettings(model="tiny", scheduler=name))
    requests = [make_request("a red fox", 1), make_request("a lighthouse", 2, row=1)]
    model.generate(make_batch(*requests))
    torch.cuda.set_sync_debug_mode("error")
    try:
        wait = model.launch(make_batch(*requests))
    finally:
        torch.cuda.set_sync_debug_mode("default")

    images = wait()
    assert images.finite == (True, True)
    assert sum(images.seconds.values()) > 0
