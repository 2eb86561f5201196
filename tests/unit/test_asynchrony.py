"""Within a call of a pipeline the host waits for nothing on the device, whatever the scheduler.

The meta device stands for a GPU. Its tensors hold no numbers, so whatever would read one back fails, and every copy
from the host is seen, with whether it is waited for.
"""

from contextlib import contextmanager
from functools import partial

import diffusers
import pytest
import torch
from PIL import Image
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from actors.models.asynchrony import Asynchrony
from actors.models.compilation import compile_blocks
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
AT_FIRST = {"qwen-image": 2, "z-image": 3}
"""Tables of positions that a model brings to the device in its first batch."""

pytestmark = [  # of diffusers
    pytest.mark.filterwarnings("ignore:__array:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`FluxPosEmbed` is deprecated:FutureWarning"),
]


class Copies(TorchDispatchMode):
    """Counts the copies to the device that are waited for.

    Not in `inference_mode`, where torch hands out `Tensor.to` in one piece, with no word of a copy.
    """

    blocking = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        given = {torch.ops.aten._to_copy.default: 0, torch.ops.aten.copy_.default: 1}.get(function)
        if given is not None and args[given].device.type == "cpu" and made.device == META:
            self.blocking += not ((kwargs or {}).get("non_blocking") or args[2:] == (True,))
        return made


class Data(TorchFunctionMode):
    """Counts what is sent to the device by making it there from Python's numbers, in which no copy is seen."""

    blocking = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        where = (kwargs or {}).get("device")
        if function in (torch.tensor, torch.as_tensor) and where is not None:
            self.blocking += torch.device(where) == META
        return function(*args, **(kwargs or {}))


@contextmanager
def waits():
    """How often the host has waited so far, since it began."""
    with torch.no_grad(), Copies() as copies, Data() as data:
        yield lambda: copies.blocking + data.blocking


def call(pipeline, side=32, **inputs):
    """As for a batch of two, on whatever device it is: the images."""
    generators = [torch.Generator().manual_seed(n) for n in range(2)]
    told = inputs or {"height": side, "width": side}
    prompts = ["a", "b"]
    return pipeline(prompt=prompts, num_inference_steps=3, generator=generators, output_type="pt", **told).images


def with_scheduler(name):
    scheduler, pipeline = PLAIN[name], own_pipeline(tiny_folder())
    scheduler_class = getattr(diffusers, scheduler.class_name)
    pipeline.scheduler = scheduler_class.from_config(pipeline.scheduler.config, **scheduler.options)
    return pipeline.to(META)


@pytest.mark.parametrize("name", OFFERED)
def test_no_scheduler_that_is_offered_waits_for_the_device(name):
    pipeline = with_scheduler(name)

    with waits() as waited, Asynchrony(pipeline, META):
        images = call(pipeline)

    assert images.device == META
    assert waited() == 0


@pytest.mark.parametrize("name", OFFERED)
def test_nor_where_it_begins_with_an_image(name):
    pipeline = diffusers.StableDiffusionImg2ImgPipeline(
        **with_scheduler(name).components, requires_safety_checker=False
    )
    pipeline.set_progress_bar_config(disable=True)

    with waits() as waited, Asynchrony(pipeline, META):
        images = call(pipeline, image=[Image.new("RGB", (32, 32))] * 2, strength=0.7)

    assert images.device == META
    assert waited() == 0


@pytest.mark.parametrize("name", ["ddim", "pndm", "lcm", "euler"])
def test_left_alone_they_do(name):
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        call(with_scheduler(name))


def test_whatever_is_waited_for_is_counted():
    with waits() as waited:
        torch.ones(2).to(META, non_blocking=True)
        torch.empty(2, device=META).copy_(torch.ones(2), non_blocking=True)
        torch.empty(2, device=META).copy_(torch.ones(2), True)
        torch.full((2,), 1.0, device=META)
        assert waited() == 0
        torch.ones(2).to(META)
        torch.ones(2).to(META, torch.float16)
        torch.tensor([1.0, 2.0], device="meta")
        torch.empty(2, device=META).copy_(torch.ones(2))
        assert waited() == 4


def test_two_text_encoders_are_not_waited_for_either(tmp_path):
    pipeline = own_pipeline(save_xl(tiny_folder(), tmp_path / "xl")).to(META)

    with waits() as waited, Asynchrony(pipeline, META):
        call(pipeline)

    assert waited() == 0


def of_family(family):
    """Its pipeline on the meta device, with texts that were encoded before: transformers reads the masks of the newer
    text encoders back, once a batch."""
    pipeline = getattr(diffusers, FAMILIES[family])(**DITS[family]())
    pipeline.set_progress_bar_config(disable=True)
    own, encoded = pipeline.encode_prompt, []
    pipeline.encode_prompt = lambda *args, **kwargs: encoded.append(own(*args, **kwargs)) or encoded[-1]
    with torch.no_grad():
        call(pipeline, side=64)
    encoded *= 2
    pipeline.encode_prompt = lambda *_, **__: tree_map_only(
        torch.Tensor, lambda one: one.to(META, non_blocking=True), encoded.pop(0)
    )
    return pipeline.to(META)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_family_waits_for_the_device_while_it_denoises(family):
    pipeline = of_family(family)

    with waits() as waited, Asynchrony(pipeline, META):
        call(pipeline, side=64)
        assert waited() == AT_FIRST.get(family, 0)
        images = call(pipeline, side=64)

    assert images.device == META
    assert waited() == AT_FIRST.get(family, 0)


def test_one_that_is_compiled_whole_is_left_alone_as_well(monkeypatch):
    pipeline = of_family("sd3-medium")
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager", fullgraph=True))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    assert compile_blocks(pipeline) == {"compile": "whole"}

    with torch.no_grad(), Asynchrony(pipeline, META):
        call(pipeline, side=64)

    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


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


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is here")
@pytest.mark.filterwarnings("ignore:Synchronization debug mode:UserWarning")  # that it is a prototype
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
