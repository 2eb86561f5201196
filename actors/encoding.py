"""How pixels become the bytes of an image file, and back (the only user of their libraries).

Each encoder is the fastest measured (`python -m benchmarks.encoders`) that loses nothing, JPEG apart, and that lets
other threads run meanwhile, so that a pool of threads encodes on every core next to the model.
"""

import io
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import cast

import numpy as np
import simplejpeg
from isal import igzip_lib, isal_zlib
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from actors.errors import InputError, Problem
from actors.imprint import Imprint
from actors.models.model import Pixels
from actors.room import Room
from actors.settings import MAX_SIDE, EncodingSettings, ImageFormat

MAX_PIXELS = MAX_SIDE * MAX_SIDE
"""More than any image of ours has: what claims more is not decoded."""
MAX_INPUT_PIXELS = 64_000_000
"""Of an image from elsewhere: cameras have up to 61 million. All that are being decoded at a time have no more
together, which takes 0.3 GB as PNG (0.5 where it has to be turned or converted), 0.65 GB as progressive JPEG, and 1 GB
as WebP (measured)."""
ORIENTATION = 0x0112
"""Tag of EXIF."""
LYING = (5, 6, 7, 8)
"""Its values where the picture lies on its side."""
DEEP = ("I", "I;16", "I;16B", "I;16L")
"""Pillow's modes of 16 bits: what PNG has of such."""

_room = Room(MAX_INPUT_PIXELS)
Encoder = Callable[[Pixels, EncodingSettings, Imprint | None], bytes]


def encode(pixels: Pixels, settings: EncodingSettings, imprint: Imprint | None = None) -> bytes:
    """The image `[height, width, 3]` as a file, with what it says of itself. Equal arguments give equal bytes."""
    assert pixels.dtype == np.uint8, pixels.dtype
    assert pixels.shape[2:] == (3,), pixels.shape
    return ENCODERS[settings.format](np.ascontiguousarray(pixels), settings, imprint)


def decode(data: bytes, max_pixels: int = MAX_PIXELS) -> Pixels:
    """The pixels of an image file, RGB. Raises `InputError` where it is damaged or has more than `max_pixels`."""
    with _open(data, max_pixels) as image:
        return np.asarray(image.convert("RGB"))


def decode_input(data: bytes, name: str, width: int, height: int) -> NDArray[np.uint8] | NDArray[np.float32]:
    """The pixels of an image from elsewhere, upright as its EXIF has it and stretched to this size:
    `[height, width, 3]` of an `image`; `[height, width]` of a `mask_image`, with no value that was not there, or of a
    `depth_map`, as floats from 0 to 1. Raises `InputError`."""
    with _open_input(data) as image:
        ImageOps.exif_transpose(image, in_place=True)
        if name == "depth_map":
            return _depth(image, (width, height))
        mode, smooth = ("RGB", Image.Resampling.LANCZOS) if name == "image" else ("L", Image.Resampling.NEAREST)
        of_bytes = _of_bytes(image)
        same = of_bytes if of_bytes.mode == mode else of_bytes.convert(mode)
        return np.asarray(same.resize((width, height), smooth))


def measure(data: bytes) -> tuple[int, int]:
    """Width and height of an image from elsewhere once it is upright. Raises `InputError`."""
    with _open_input(data) as image:
        lies = image.getexif().get(ORIENTATION) in LYING
        return (image.height, image.width) if lies else (image.width, image.height)


def _of_bytes(image: Image.Image) -> Image.Image:
    """One of 16 bits by its upper eight: Pillow would cut it off at 255, which is white."""
    if image.mode not in DEEP:
        return image
    upper = np.empty((image.height, image.width), np.uint8)
    return Image.fromarray(np.right_shift(np.asarray(image), 8, out=upper, casting="unsafe"))


def _depth(image: Image.Image, size: tuple[int, int]) -> NDArray[np.float32]:
    """16 bits are more than float16 holds, and pipelines look at the order alone. Bicubic, as Lanczos overshoots
    floats by more."""
    grey = image if image.mode in DEEP else image.convert("L")
    low, high = cast("tuple[float, float]", grey.getextrema())
    if low == high:
        why = "all of it is at one depth, from which no model can tell near from far"
        raise InputError(Problem("LM1613", why))
    stretched = np.asarray(grey.convert("F").resize(size, Image.Resampling.BICUBIC))
    spread: NDArray[np.float32] = (stretched - np.float32(low)) / np.float32(high - low)
    return spread


def picture(pixels: NDArray[np.uint8] | NDArray[np.float32]) -> Image.Image:
    """The picture as Pillow has it, for libraries that take nothing else."""
    return Image.fromarray(pixels)


@contextmanager
def _open_input(data: bytes) -> Iterator[Image.Image]:
    """One from elsewhere, as soon as there is room for what it will be: its first bytes tell."""
    with _open(data, MAX_INPUT_PIXELS) as image, _room.held(image.width * image.height):
        yield image


@contextmanager
def _open(data: bytes, max_pixels: int) -> Iterator[Image.Image]:
    """What its first bytes say of the image; whatever is wrong with it, also later, is an `InputError`."""
    try:
        with Image.open(io.BytesIO(data), formats=("WEBP", "PNG", "JPEG")) as image:
            if image.width * image.height > max_pixels:
                raise InputError(_undecodable(f"{image.width}x{image.height} is over {max_pixels} pixels"))
            yield image
    except UnidentifiedImageError as error:
        raise InputError(_undecodable("it is neither WebP nor PNG nor JPEG")) from error
    except InputError:
        raise
    except Exception as error:  # bytes of a stranger: EXIF that is damaged has struct.error, TypeError and more
        raise InputError(_undecodable(str(error))) from error


def _undecodable(why: str) -> Problem:
    return Problem("LM1613", f"the image cannot be decoded: {why}", help="run `lightmill verify` on its output")


def _webp(pixels: Pixels, settings: EncodingSettings, imprint: Imprint | None) -> bytes:
    """Lossless at the least effort: a third more bytes than Pillow's default effort, in a twelfth of its time."""
    file = io.BytesIO()
    told = {"exif": imprint.exif, "xmp": imprint.xmp} if imprint else {}
    Image.fromarray(pixels).save(file, "WEBP", lossless=True, quality=0, method=0, **told)
    return file.getvalue()


def _jpeg(pixels: Pixels, settings: EncodingSettings, imprint: Imprint | None) -> bytes:
    """4:2:0, as every library's default is. Pillow's encoder keeps the GIL: two threads are no faster than one."""
    data = simplejpeg.encode_jpeg(pixels, settings.quality, colorspace="RGB", colorsubsampling="420")
    if imprint is None:
        return bytes(data)
    (length,) = struct.unpack_from(">H", data, 4)  # of the JFIF header, which comes first; ours come next
    exif = _segment(b"Exif\0\0", imprint.exif)
    xmp = _segment(b"http://ns.adobe.com/xap/1.0/\0", imprint.xmp)
    return b"".join((data[: 4 + length], *exif, *xmp, memoryview(data)[4 + length :]))


def _segment(kind: bytes, data: bytes) -> tuple[bytes, bytes, bytes]:
    """APP1 of a JPEG."""
    return struct.pack(">HH", 0xFFE1, 2 + len(kind) + len(data)), kind, data


def _png(pixels: Pixels, settings: EncodingSettings, imprint: Imprint | None) -> bytes:
    """Filtered lines, deflated by ISA-L with a window of two bytes.

    The window leaves deflate its Huffman codes and runs of one value, which is all there is to win in filtered
    photographs: matches further back cost more than the literals they replace. So it is smaller than Pillow's default
    as well, in a seventieth of the time.
    """
    lines = igzip_lib.compress(png_lines(pixels), level=1, flag=igzip_lib.COMP_ZLIB, hist_bits=1)
    return png_file(pixels, lines, imprint)


def png_lines(pixels: Pixels) -> Pixels:
    """What a PNG compresses: each line after the number of its filter, each byte less that of the pixel to the left."""
    height, width, channels = pixels.shape
    flat = pixels.reshape(height, width * channels)
    lines = np.empty((height, 1 + flat.shape[1]), np.uint8)
    lines[:, 0] = 1  # Sub
    lines[:, 1 : 1 + channels] = flat[:, :channels]
    np.subtract(flat[:, channels:], flat[:, :-channels], out=lines[:, 1 + channels :])
    return lines


def png_file(pixels: Pixels, compressed: bytes, imprint: Imprint | None = None) -> bytes:
    """The file around the compressed lines."""
    height, width, _ = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits a channel, colour type 2 is RGB
    texts = _png_texts(imprint) if imprint else ()
    chunks = (*_chunk(b"IHDR", header), *texts, *_chunk(b"IDAT", compressed), *_chunk(b"IEND", b""))
    return b"".join((b"\x89PNG\r\n\x1a\n", *chunks))


def _png_texts(imprint: Imprint) -> tuple[bytes, ...]:
    """Before the pixels, where a reader finds them that stops at those. Latin-1 goes into the kind of chunk that more
    readers know."""
    text = imprint.parameters
    try:
        parameters = _chunk(b"tEXt", b"parameters\0" + text.encode("latin-1"))
    except UnicodeEncodeError:
        parameters = _chunk(b"iTXt", b"parameters\0\0\0\0\0" + text.encode())
    return (*parameters, *_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + imprint.xmp))


def _chunk(kind: bytes, data: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    checksum = isal_zlib.crc32(data, isal_zlib.crc32(kind))
    return struct.pack(">I", len(data)), kind, data, struct.pack(">I", checksum)


ENCODERS: Mapping[ImageFormat, Encoder] = {"webp": _webp, "png": _png, "jpeg": _jpeg}
