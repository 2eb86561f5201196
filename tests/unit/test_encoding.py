"""Images become files and come back, whatever their shape."""

import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from actors import encoding
from actors.encoding import ENCODERS, MAX_INPUT_PIXELS, decode, decode_input, encode, measure
from actors.errors import InputError
from actors.settings import EncodingSettings
from benchmarks.natural import natural_image

LOSSLESS = ("webp", "png")

any_image = st.tuples(st.integers(1, 40), st.integers(1, 40)).flatmap(
    lambda size: arrays(np.uint8, (*size, 3), elements=st.integers(0, 255))
)


def through_pillow(data: bytes):
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB")), image.format


@pytest.mark.parametrize("name", LOSSLESS)
@given(pixels=any_image)
def test_lossless_formats_give_every_image_back(name, pixels):
    data = encode(pixels, EncodingSettings(format=name))
    seen, kind = through_pillow(data)
    assert kind == name.upper()
    assert np.array_equal(seen, pixels)
    assert np.array_equal(decode(data), pixels)


@given(pixels=any_image)
def test_jpeg_keeps_the_shape(pixels):
    seen, kind = through_pillow(encode(pixels, EncodingSettings(format="jpeg")))
    assert (seen.shape, kind) == (pixels.shape, "JPEG")


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("size", [(1, 1), (1, 257), (257, 1), (131, 97), (512, 768)])
def test_natural_images_of_odd_sizes(name, size):
    height, width = size
    pixels = natural_image(max(size), seed=3)[:height, :width]
    seen = decode(encode(pixels, EncodingSettings(format=name)))
    assert seen.shape == pixels.shape
    if name in LOSSLESS:
        assert np.array_equal(seen, pixels)
    elif min(size) > 90:
        assert np.abs(seen.astype(int) - pixels).mean() < 4


@pytest.mark.parametrize("name", ENCODERS)
def test_an_array_that_is_not_contiguous_gives_the_same_file(name):
    batch = np.stack([natural_image(64, seed) for seed in range(3)])
    settings = EncodingSettings(format=name)
    for view in (batch[1, ::-1, ::2], batch[2].transpose(1, 0, 2), batch[0, :, :, ::-1]):
        assert not view.flags["C_CONTIGUOUS"]
        assert encode(view, settings) == encode(view.copy(), settings)


def test_quality_is_that_of_jpeg():
    pixels = natural_image(128)
    rough, fine = (len(encode(pixels, EncodingSettings(format="jpeg", quality=quality))) for quality in (30, 95))
    assert rough < fine / 2


def test_natural_images_become_smaller():
    pixels = natural_image(256)
    for name in LOSSLESS:
        assert len(encode(pixels, EncodingSettings(format=name))) < 0.6 * pixels.nbytes


def test_the_png_window_is_one_that_every_inflater_takes():
    data = encode(natural_image(64), EncodingSettings(format="png"))
    compressed = data[41:-16]
    assert struct.unpack(">I", data[33:37])[0] == len(compressed)
    assert len(zlib.decompress(compressed, 8)) == 64 * (1 + 3 * 64)  # 8: no reference goes back over 256 bytes


@pytest.mark.parametrize("name", ENCODERS)
def test_a_damaged_image_is_an_error(name):
    data = encode(natural_image(64), EncodingSettings(format=name))
    for damaged in (b"", data[:20], data[: len(data) // 2], b"GIF89a" + data):
        with pytest.raises(InputError) as caught:
            decode(damaged)
        assert caught.value.code == "LM1613"


@given(data=st.binary(max_size=200))
def test_bytes_that_are_no_image_are_an_error(data):
    with pytest.raises(InputError):
        decode(data)


def test_more_pixels_than_asked_for_are_not_decoded():
    data = encode(natural_image(64), EncodingSettings(format="png"))
    assert decode(data, max_pixels=64 * 64).shape == (64, 64, 3)
    with pytest.raises(InputError, match="64x64 is over 4095 pixels"):
        decode(data, max_pixels=64 * 64 - 1)


def test_a_bomb_is_refused_by_its_header():
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    with pytest.raises(InputError):
        decode(bomb)


def as_png(image, **how):
    file = io.BytesIO()
    image.save(file, "PNG", **how)
    return file.getvalue()


@pytest.mark.parametrize(("name", "shape"), [("image", (2, 256, 3)), ("mask_image", (2, 256))])
def test_sixteen_bits_are_read_by_their_upper_eight(name, shape):
    deep = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(2, 0)
    found = decode_input(as_png(Image.fromarray(deep)), name, 256, 2)
    assert (found.shape, found.dtype) == (shape, np.uint8)
    np.testing.assert_array_equal(found.reshape(2, 256, -1)[:, :, 0], deep >> 8)


def test_a_depth_map_keeps_all_sixteen_and_goes_from_0_to_1():
    deep = np.linspace(1000, 60000, 256).astype(np.uint16)[None].repeat(2, 0)
    found = decode_input(as_png(Image.fromarray(deep)), "depth_map", 256, 2)
    assert (found.min(), found.max(), len(np.unique(found))) == (0, 1, 256)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("name", ["image", "depth_map"])
def test_an_input_takes_eight_bytes_a_pixel_while_it_is_decoded(name, mode):
    """And none where it is not."""
    side = 2000
    image = Image.new(mode, (side, side), 99 if mode == "I;16" else (1, 2, 3))
    image.putpixel((0, 0), 77 if mode == "I;16" else (9, 9, 9))
    data = as_png(image, compress_level=1)
    del image
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    before = peak()
    decode_input(data, name, 64, 64)
    assert (peak() - before) / side**2 < 10


def peak():
    return 1024 * int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])


@pytest.mark.parametrize("reading", [lambda data: decode_input(data, "image", 8, 8), measure])
def test_inputs_wait_until_there_is_room_for_them(reading):
    data = as_png(Image.new("RGB", (8, 8)))
    with ThreadPoolExecutor(1) as pool:
        with encoding._room.held(MAX_INPUT_PIXELS):
            future = pool.submit(reading, data)
            with pytest.raises(TimeoutError):
                future.result(0.1)
        assert future.result(10) is not None
