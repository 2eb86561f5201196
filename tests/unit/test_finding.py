"""What an image that was made again is, beside the stored one: identical, within rounding, different."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from actors.encoding import decode, encode
from actors.likeness import likeness
from actors.settings import EncodingSettings
from actors.storage.opening import open_bucket
from builders import finished, read_rows
from jobs.finding import compare


@pytest.fixture
def waves(tmp_path):
    """Ten prompts through `fake`, in shards of four."""
    return finished(tmp_path, 10, sink="files")


@pytest.mark.parametrize(
    ("format", "level", "verdict"), [("png", 2, "rounding"), ("png", 3, "different"), ("jpeg", 3, "rounding")]
)
def test_the_bounds_of_rounding(memory_image, format, level, verdict):  # noqa: A002
    bucket, row, pixels = memory_image(format)
    pixels[0, 0, 0] += level
    finding = compare(bucket, row, row, encode(pixels, EncodingSettings(format="png")))
    assert (finding.verdict, finding.likeness.max_difference) == (verdict, level)


def test_a_low_psnr_is_different_however_small_the_steps(memory_image):
    bucket, row, pixels = memory_image("png")
    finding = compare(bucket, row, row, encode(pixels + np.uint8(2), EncodingSettings(format="png")))
    assert (finding.verdict, finding.likeness.max_difference) == ("different", 2)
    assert finding.likeness.psnr == pytest.approx(10 * np.log10(255**2 / 4))


def test_equal_pixels_in_other_bytes_are_rounding(memory_image):
    bucket, row, pixels = memory_image("png")
    finding = compare(bucket, row, row, encode(pixels, EncodingSettings(format="webp")))
    assert (finding.verdict, finding.to_dict()["max_difference"], finding.to_dict()["psnr"]) == ("rounding", 0, None)
    json.dumps(finding.to_dict(), allow_nan=False)


@pytest.fixture
def memory_image(waves):
    """A stored image, its row, and its pixels; the row says that its format is this one."""

    def stored(format):  # noqa: A002
        row = read_rows(waves)["000000000000-0000-00"]
        pixels = decode(Path(waves.output, row["file"]).read_bytes()) // 2
        bucket = open_bucket(waves.output)
        data = encode(pixels, EncodingSettings(format="png"))
        bucket.put("images/x.png", data)
        digest = hashlib.sha256(data).hexdigest()
        place = {"file": "images/x.png", "file_offset": 0, "file_length": len(data), "sha256": digest}
        return bucket, {**row, **place, "format": format}, pixels.copy()

    return stored


def test_psnr_of_one_level_everywhere():
    grey = np.full((4, 4, 3), 100, np.uint8)
    assert likeness(grey, grey + np.uint8(1)).psnr == pytest.approx(48.13, abs=0.01)
    assert likeness(grey, grey).psnr == np.inf
