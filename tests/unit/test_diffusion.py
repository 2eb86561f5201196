import hashlib
from concurrent.futures import ThreadPoolExecutor

import diffusers
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from actors.errors import InputError, OutOfMemory
from actors.logs import LogFile
from actors.metadata import read_metadata
from actors.models.accelerator import DEVICE_LOST, best_dtype, take_share
from actors.models.loading import load_model
from actors.models.registry import find_card
from actors.models.settings import ModelSettings
from actors.models.tiny import save_tiny, tiny_folder
from actors.models.trust import weights_sha256
from actors.worker import Worker
from lanes import make_batch, make_order, make_recipe, make_request
from memory_bucket import MemoryBucket
from pipelines import copy_of_tiny, save_latent_consistency, save_with_safety_checker, save_xl

PROMPTS = ["a red fox in the snow", "a lighthouse at night", "cat", "", "日本語 🦊"]
SEEDS = [1, 2**53 - 1, 3, 3, 5]
REQUESTS = [make_request(text, seed, row=row) for row, (text, seed) in enumerate(zip(PROMPTS, SEEDS, strict=True))]


@pytest.fixture(scope="module")
def tiny():
    return load_model(ModelSettings(model="tiny"), device="cpu")


def as_diffusers_paints(folder, requests, **more):
    """What a user gets from the pipeline itself, as PIL images."""
    torch.set_num_threads(1)
    pipeline = diffusers.DiffusionPipeline.from_pretrained(str(folder), local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    first = requests[0]
    output = pipeline(
        prompt=[request.prompt.text for request in requests],
        height=first.height,
        width=first.width,
        num_inference_steps=first.num_inference_steps,
        guidance_scale=first.guidance_scale,
        generator=[torch.Generator().manual_seed(request.seed) for request in requests],
        **more,
    )
    return np.stack([np.asarray(image) for image in output.images])


@pytest.mark.parametrize("guidance", [7.5, 1.0, 0.0])
@pytest.mark.parametrize("side", [64, 40])
def test_pictures_are_those_of_diffusers_byte_for_byte(tiny, guidance, side):
    requests = [make_request(r.prompt.text, r.seed, side=side, guidance=guidance) for r in REQUESTS]

    images = tiny.generate(make_batch(*requests))

    assert images.pixels.shape == (5, side, side, 3)
    np.testing.assert_array_equal(images.pixels, as_diffusers_paints(tiny_folder(), requests))


def test_negative_prompts_are_those_of_each_image(tiny):
    negatives = ["blue", "green", "", "x", "y"]
    requests = [
        make_request(r.prompt.text, r.seed, negative=negative) for r, negative in zip(REQUESTS, negatives, strict=True)
    ]

    pixels = tiny.generate(make_batch(*requests)).pixels

    np.testing.assert_array_equal(pixels, as_diffusers_paints(tiny_folder(), requests, negative_prompt=negatives))
    assert (pixels[0] != tiny.generate(make_batch(*REQUESTS)).pixels[0]).any()


def test_neighbours_place_and_filling_change_no_byte(tiny):
    whole = tiny.generate(make_batch(*REQUESTS)).pixels

    np.testing.assert_array_equal(tiny.generate(make_batch(*reversed(REQUESTS))).pixels, whole[::-1])
    np.testing.assert_array_equal(tiny.generate(make_batch(*REQUESTS[1:3], size=5)).pixels, whole[1:3])
    np.testing.assert_array_equal(tiny.generate(make_batch(REQUESTS[4], size=5)).pixels, whole[4:])


@pytest.mark.parametrize("size", [1, 2, 4])
def test_another_batch_size_moves_a_picture_by_a_rounding_step_at_most(tiny, size):
    whole = tiny.generate(make_batch(*REQUESTS)).pixels.astype(int)

    other = tiny.generate(make_batch(REQUESTS[0], size=size)).pixels.astype(int)

    assert abs(other[0] - whole[0]).max() <= 1


def test_prompts_and_seeds_show(tiny):
    same = [make_request("cat", 1), make_request("cat", 2), make_request("an old oak", 1)]

    pixels = tiny.generate(make_batch(*same)).pixels.astype(int)

    for one, other in [(0, 1), (0, 2), (1, 2)]:
        assert abs(pixels[one] - pixels[other]).mean() > 8
    assert all(picture.std() > 20 for picture in pixels)


def test_tokens_that_the_text_encoder_does_not_see_are_counted(tiny):
    # Each letter is a token, and 75 fit between the marks.
    images = tiny.generate(make_batch(make_request("a" * 75), make_request("a" * 78)))

    assert images.prompt_truncated == (0, 3)


def test_what_is_known_of_the_model_is_recorded(tiny):
    info = tiny.info

    assert (info.model, info.scheduler, info.dtype, info.threads) == ("tiny", "DDIMScheduler", "float32", 1)
    assert (info.width, info.height, info.size_multiple, info.num_inference_steps) == (64, 64, 8, 6)
    assert info.weights_sha256 == weights_sha256(tiny_folder())


def test_the_weights_of_tiny_are_the_same_on_every_machine(tmp_path):
    save_tiny(tmp_path / "tiny")

    digest = hashlib.sha256()
    for path in sorted((tmp_path / "tiny").glob("*/*.safetensors")):
        for name, tensor in sorted(load_file(path).items()):
            digest.update(name.encode())
            digest.update(tensor.numpy().tobytes())
    assert digest.hexdigest() == "cab4c78a9a10fc731fbcb8c09c3bcfafa769d6480fda7cf77d1c10b17a6eb392"


def test_whoever_makes_tiny_at_once_ends_with_one_whole_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    with ThreadPoolExecutor(3) as threads:
        told = {future.result() for future in [threads.submit(tiny_folder) for _ in range(3)]}

    assert told == {tmp_path / "lightmill" / "tiny-1"}
    assert [path.name for path in (tmp_path / "lightmill").iterdir()] == ["tiny-1"]
    assert load_model(ModelSettings(model="tiny"), device="cpu").info.weights_sha256 == weights_sha256(told.pop())


def test_a_pipeline_without_negative_prompts_is_called_without(tmp_path):
    folder = save_latent_consistency(tiny_folder(), tmp_path / "lcm")
    requests = [make_request("cat", 1, negative="dog"), make_request("fox", 2, negative="dog")]

    images = load_model(ModelSettings(model=str(folder))).generate(make_batch(*requests))

    np.testing.assert_array_equal(images.pixels, as_diffusers_paints(folder, requests))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # within diffusers' Euler scheduler
def test_two_text_encoders_and_no_negative_prompt_are_as_diffusers_has_them(tmp_path):
    folder = save_xl(tiny_folder(), tmp_path / "xl")
    model = load_model(ModelSettings(model=str(folder)))

    images = model.generate(make_batch(*REQUESTS))

    assert (model.info.num_inference_steps, model.info.guidance_scale) == (50, 5.0)
    np.testing.assert_array_equal(images.pixels, as_diffusers_paints(folder, REQUESTS))


@pytest.mark.parametrize(("threshold", "flagged"), [(-2.0, True), (2.0, False)])
def test_the_safety_checkers_word_is_passed_on(tmp_path, threshold, flagged):
    folder = save_with_safety_checker(tiny_folder(), tmp_path / "checked", threshold)

    images = load_model(ModelSettings(model=str(folder))).generate(make_batch(*REQUESTS, size=6))

    assert images.nsfw == (flagged,) * 5
    assert all((score > 0) is flagged for score in images.nsfw_score)


def test_a_safety_checker_changes_no_picture(tmp_path):
    folder = save_with_safety_checker(tiny_folder(), tmp_path / "checked", -2.0)
    plain, unasked = (
        load_model(ModelSettings(model=model), safety_checker="off").generate(make_batch(*REQUESTS))
        for model in ("tiny", str(folder))
    )
    flagged = load_model(ModelSettings(model=str(folder))).generate(make_batch(*REQUESTS))
    assert (unasked.nsfw, unasked.nsfw_score) == ((None,) * 5, (None,) * 5)
    np.testing.assert_array_equal(flagged.pixels, plain.pixels)
    np.testing.assert_array_equal(unasked.pixels, plain.pixels)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("Unable to find a valid cuDNN algorithm to run convolution"),
        RuntimeError("GET was unable to find an engine to execute this computation"),
    ],
)
def test_a_device_without_room_is_out_of_memory_and_works_on(tiny, error):
    def refuse(module, _):
        if isinstance(module, diffusers.UNet2DConditionModel):
            raise error

    hook = torch.nn.modules.module.register_module_forward_pre_hook(refuse)
    try:
        with pytest.raises(OutOfMemory, match="no room on cpu for 5 images of 64x64"):
            tiny.generate(make_batch(*REQUESTS))
    finally:
        hook.remove()

    assert tiny.generate(make_batch(REQUESTS[0])).finite == (True,)


def test_a_device_that_is_lost_ends_the_process_instead_of_failing_every_later_image(tiny, monkeypatch):
    def refuse(module, _):
        if isinstance(module, diffusers.UNet2DConditionModel):
            raise RuntimeError("CUDA error: device-side assert triggered")

    def leave(status):
        raise SystemExit(status)

    monkeypatch.setattr("os._exit", leave)
    hook = torch.nn.modules.module.register_module_forward_pre_hook(refuse)
    bucket = MemoryBucket()
    try:
        with LogFile(bucket, "worker"):
            with pytest.raises(SystemExit, match=str(DEVICE_LOST)):
                tiny.generate(make_batch(*REQUESTS))
            assert b"device-side assert" in bucket.get("logs/worker-0000.jsonl")  # before it could be put otherwise
    finally:
        hook.remove()


@pytest.mark.parametrize(("share", "bound"), [(0.5, 0.475), (1.0, 1.0)])
def test_a_worker_on_a_part_of_a_gpu_has_that_part_of_its_memory(monkeypatch, share, bound):
    """Asked as torch wants it: its own check of the words runs, and what it would tell CUDA is seen."""
    told = []
    monkeypatch.setattr(torch.cuda.memory, "_lazy_init", lambda: None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch._C, "_cuda_setMemoryFraction", lambda *words: told.append(words), raising=False)

    take_share(share)

    assert told == [(bound, 0)]


def test_a_gpu_is_warmed_up_with_one_image_at_the_models_own_size(tiny, monkeypatch):
    asked = []
    with monkeypatch.context() as on_gpu:
        on_gpu.setattr(tiny, "_device", torch.device("cuda"))
        on_gpu.setattr(tiny, "generate", asked.append)
        tiny.warm_up()
    tiny.warm_up()  # a CPU is not

    (batch,) = asked
    assert tiny.generate(batch).pixels.shape == (1, 64, 64, 3)


@pytest.mark.parametrize(
    ("major", "model", "dtype"),
    [
        (8, "stable-diffusion-2-1", "bfloat16"),
        (7, "stable-diffusion-1-5", "float16"),
        (7, "stable-diffusion-2-1", "float32"),  # its card knows of black pictures
        (7, None, "float32"),
    ],
)
def test_a_gpu_gets_the_fastest_numbers_that_give_the_same_pictures(monkeypatch, major, model, dtype):
    properties = type("Properties", (), {"major": major})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    monkeypatch.setattr(torch.cuda, "_check_bf16_tensor_supported", lambda _: True, raising=False)
    card = find_card(model) if model else None

    assert best_dtype(torch.device("cuda"), card) == dtype
    assert best_dtype(torch.device("cpu"), card) == "float32"


@pytest.mark.parametrize("part", ["text_encoder/model", "unet/diffusion_pytorch_model"])
def test_weights_that_are_cut_short_are_the_models_fault(tmp_path, part):
    folder = copy_of_tiny(tiny_folder(), tmp_path / "model")
    weights = folder / f"{part}.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(InputError, match="LM1206.*cannot load StableDiffusionPipeline"):
        load_model(ModelSettings(model=str(folder)))


def test_images_that_are_not_finite_are_told_apart(tiny):
    def spoil(module, _, output):
        if isinstance(module, diffusers.models.autoencoders.vae.Decoder):
            output[1, 0, 5, 5] = float("nan")
            output[2, 0, 5, 5] = float("inf")
        return output

    hook = torch.nn.modules.module.register_module_forward_hook(spoil)
    try:
        images = tiny.generate(make_batch(*REQUESTS))
    finally:
        hook.remove()

    assert images.finite == (True, False, False, True, True)


def test_a_worker_makes_the_same_bytes_whatever_happened_before(tmp_path):
    prompts = [f"a painting of {thing}" for thing in ("a fox", "an owl", "a whale", "rain", "Rome")]
    settings = {"model": "tiny", "batch_size": 2, "num_inference_steps": 2}
    hashes = []
    for number, order in enumerate(
        [
            make_order(5),
            make_order(5, alone=frozenset({"000000000001-0000-00", "000000000004-0000-00"})),
            make_order(5, start=0, only=frozenset(f"{row:012d}-0000-00" for row in range(1, 5))),
        ]
    ):
        *_, report = Worker(make_recipe(tmp_path / str(number), prompts, **settings), "w0").run(order)
        table = read_metadata(report.metadata).table
        hashes.append(dict(zip(table["key"].to_pylist(), table["sha256"].to_pylist(), strict=True)))

    assert hashes[0] == hashes[1]
    assert len(hashes[2]) == 4
    assert hashes[2].items() <= hashes[0].items()
