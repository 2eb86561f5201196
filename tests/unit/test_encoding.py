"""Images become files and come back, whatever their shape."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from actors.encoding import ENCODERS, decode, encode
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
