"""Which encoder for which format: time of one image, one thread and two, and bytes, against Pillow's defaults.

`python -m benchmarks.encoders [webp|png|jpeg] [512|1024]`, any number of each. Candidates whose library is not
installed are left out, and named.
"""

import importlib.util
import io
import sys
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from actors.encoding import encode, png_file, png_lines
from actors.settings import EncodingSettings, ImageFormat
from benchmarks.natural import Pixels, natural_images
from benchmarks.timing import interleaved, print_table, write_results

SIZES = (512, 1024)
IMAGES = 2
ROUNDS = 5
JPEG_QUALITY = 95

Encode = Callable[[Pixels], bytes]


def _pillow(kind: str, **options: object) -> Encode:
    def run(pixels: Pixels) -> bytes:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, kind, **options)
        return file.getvalue()

    return run


def _ours(name: ImageFormat) -> Encode:
    return partial(encode, settings=EncodingSettings(format=name, quality=JPEG_QUALITY))


def _png_through(compress: Callable[[Pixels], bytes]) -> Encode:
    """Our PNG, with another deflate."""
    return lambda pixels: png_file(pixels, compress(png_lines(pixels)))


def _isal(level: int, hist_bits: int) -> Encode:
    from isal import igzip_lib

    return _png_through(
        lambda lines: igzip_lib.compress(lines, level=level, flag=igzip_lib.COMP_ZLIB, hist_bits=hist_bits)
    )


def _zlib_huffman(lines: Pixels) -> bytes:
    deflate = zlib.compressobj(1, zlib.DEFLATED, 15, 9, zlib.Z_HUFFMAN_ONLY)
    return deflate.compress(lines) + deflate.flush()


def _webp_encoders() -> Iterator[tuple[str, Encode]]:
    yield "Pillow lossless (method 4, quality 80)", _pillow("WEBP", lossless=True)
    yield "ours: Pillow lossless, method 0, quality 0", _ours("webp")
    yield "Pillow lossless, method 0, quality 20", _pillow("WEBP", lossless=True, method=0, quality=20)
    yield "Pillow lossless, method 1, quality 0", _pillow("WEBP", lossless=True, method=1, quality=0)
    if importlib.util.find_spec("imagecodecs"):
        import imagecodecs

        yield "imagecodecs, method 0, level 0", partial(imagecodecs.webp_encode, lossless=True, level=0, method=0)
    if importlib.util.find_spec("cv2"):
        import cv2

        yield "OpenCV lossless", lambda pixels: cv2.imencode(".webp", pixels, [cv2.IMWRITE_WEBP_QUALITY, 101])[1]


def _png_encoders() -> Iterator[tuple[str, Encode]]:
    yield "Pillow (level 6)", _pillow("PNG")
    yield "ours: Sub, ISA-L level 1, window 2 bytes", _ours("png")
    yield "Sub, ISA-L level 1, window 32 KiB", _isal(1, 15)
    yield "Sub, ISA-L level 0, window 32 KiB", _isal(0, 15)
    yield "Sub, zlib Huffman only", _png_through(_zlib_huffman)
    yield "Pillow, level 1", _pillow("PNG", compress_level=1)
    if importlib.util.find_spec("imagecodecs"):
        import imagecodecs

        yield "Sub, libdeflate level 1", _png_through(partial(imagecodecs.deflate_encode, level=1))
        yield "Sub, zlib-ng level 1", _png_through(partial(imagecodecs.zlibng_encode, level=1))
        yield "imagecodecs spng, level 1", partial(imagecodecs.spng_encode, level=1)
    if importlib.util.find_spec("cv2"):
        import cv2

        yield "OpenCV", lambda pixels: cv2.imencode(".png", pixels)[1]


def _jpeg_encoders() -> Iterator[tuple[str, Encode]]:
    yield "Pillow", _pillow("JPEG", quality=JPEG_QUALITY)
    yield "ours: simplejpeg", _ours("jpeg")
    if importlib.util.find_spec("imagecodecs"):
        import imagecodecs

        yield "imagecodecs", partial(imagecodecs.jpeg8_encode, level=JPEG_QUALITY, subsampling="420")
    if importlib.util.find_spec("cv2"):
        import cv2

        yield "OpenCV", lambda pixels: cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]


FORMATS = {"webp": _webp_encoders, "png": _png_encoders, "jpeg": _jpeg_encoders}


def _measure(name: str, size: int, threads: ThreadPoolExecutor) -> Iterator[dict[str, Any]]:
    images = natural_images(size, IMAGES)
    candidates = dict(FORMATS[name]())
    one = interleaved({label: partial(_one_thread, run, images) for label, run in candidates.items()}, ROUNDS)
    two = interleaved({label: partial(_two_threads, run, images, threads) for label, run in candidates.items()}, ROUNDS)
    reference = next(iter(candidates))
    for label, run in candidates.items():
        yield {
            "encoder": label,
            "format": name,
            "size": size,
            "ms": median(one[label]) * 1000 / IMAGES,
            "ms, 2 threads": median(two[label]) * 1000 / IMAGES,
            "times faster": median(one[reference]) / median(one[label]),
            "with 2 threads": median(two[reference]) / median(two[label]),
            "% of raw": 100 * sum(len(run(image)) for image in images) / sum(image.nbytes for image in images),
        }


def _one_thread(run: Encode, images: list[Pixels]) -> None:
    for image in images:
        run(image)


def _two_threads(run: Encode, images: list[Pixels], threads: ThreadPoolExecutor) -> None:
    list(threads.map(run, images))


def _check(size: int) -> None:
    """What is called lossless is."""
    for image in natural_images(size, IMAGES):
        for name in ("webp", "png"):
            with Image.open(io.BytesIO(_ours(name)(image))) as opened:
                assert np.array_equal(np.asarray(opened), image)


def main() -> None:
    """Measure, print, write."""
    for library in ("imagecodecs", "cv2"):
        if not importlib.util.find_spec(library):
            print(f"{library} is not installed: its encoders are left out")
    _check(512)
    rows = []
    with ThreadPoolExecutor(2) as threads:
        words = set(sys.argv[1:])
        for size in [size for size in SIZES if str(size) in words] or SIZES:
            for name in [name for name in FORMATS if name in words] or FORMATS:
                rows += (found := list(_measure(name, size, threads)))
                print_table(found)
                print()
    write_results("encoders", rows, by=["format", "size", "encoder"])


if __name__ == "__main__":
    main()
