import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.models.loading import load_model
from actors.models.settings import ModelSettings
from lanes import make_batch, make_request


def paint(*requests, options="", size=None):
    model = load_model(ModelSettings(model=f"fake:{options}"))
    return model.generate(make_batch(*requests, size=size))


@given(st.text(), st.integers(0, 2**53 - 1), st.integers(1, 70), st.integers(1, 70))
def test_equal_prompts_and_seeds_give_equal_pictures_in_any_company(text, seed, height, width):
    wanted = make_request(text, seed, width=width, height=height)
    other = make_request("other", 0, width=width, height=height)

    alone, second = paint(wanted), paint(other, wanted, size=5)

    assert alone.pixels.shape == (1, height, width, 3)
    assert second.pixels.shape == (2, height, width, 3)
    np.testing.assert_array_equal(alone.pixels[0], second.pixels[1])


@pytest.mark.parametrize("options", ["", "natural=1"])
def test_pictures_are_colourful_and_differ(options):
    requests = [make_request(f"prompt {number}", number) for number in range(8)]

    pixels = paint(*requests, options=options).pixels

    assert all(len(np.unique(picture.reshape(-1, 3), axis=0)) > 20 for picture in pixels)
    assert len({picture.tobytes() for picture in pixels}) >= (2 if options else 8)


def test_load_is_the_time_until_it_is_there():
    began = time.monotonic()
    load_model(ModelSettings(model="fake:load=0.2"))
    assert time.monotonic() - began >= 0.2


def test_pace_is_the_time_an_image_takes_filling_included():
    began = time.monotonic()
    paint(make_request(), options="pace=0.01", size=4)

    assert time.monotonic() - began >= 0.04


def test_a_file_ends_the_pace(tmp_path):
    hurry, began = tmp_path / "hurry", time.monotonic()
    paint(make_request(), options=f"pace=0.1,hurry={hurry}")
    assert time.monotonic() - began >= 0.1

    hurry.touch()
    paint(make_request(), options=f"pace=1000,hurry={hurry}")


def test_a_word_acts_on_its_own_prompts_alone():
    with pytest.raises(RuntimeError, match="fail=boom"):
        paint(make_request("a boom"), options="fail=boom")

    images = paint(make_request("plain"), make_request("nude void"), options="fail=boom,blank=void,nsfw=nude,nan=void")

    assert (images.finite, images.nsfw) == ((True, False), (False, True))
    assert [bool(picture.any()) for picture in images.pixels] == [True, False]
