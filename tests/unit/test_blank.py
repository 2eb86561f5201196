import numpy as np
import pytest

from actors.blank import find_blank
from actors.models.model import Images


def images(*pictures, finite=None):
    count = len(pictures)
    return Images(np.stack(pictures), finite or (True,) * count, (None,) * count, (None,) * count, (0,) * count)


def flat(colour):
    return np.full((40, 40, 3), colour, np.uint8)


@pytest.mark.parametrize("place", [(0, 0, 0), (39, 39, 2), (17, 5, 1)])
def test_one_pixel_that_differs_is_enough_wherever_it_is(place):
    spotted = flat(0)
    spotted[place] = 1

    assert find_blank(images(spotted)) == (None,)


def test_each_kind_of_blank_has_its_name():
    found = find_blank(images(flat(0), flat((3, 0, 9)), flat(0), finite=(True, True, False)))

    assert found == ("black", "of one colour", "NaN or infinite")


def test_an_image_of_one_pixel_is_of_one_colour():
    assert find_blank(images(np.array([[[1, 2, 3]]], np.uint8))) == ("of one colour",)
