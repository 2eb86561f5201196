"""What an image says of itself is there for every reader, whatever the prompt, and costs no pixel."""

import io
import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.ExifTags import IFD

from actors.encoding import ENCODERS, decode, encode
from actors.imprint import ALGORITHMIC, MOST_CHARACTERS, TRAINED, Imprint
from actors.settings import EncodingSettings
from benchmarks.natural import natural_image

ROW = {
    "prompt": "a red fox, 4k",
    "negative_prompt": "blurry",
    "num_inference_steps": 25,
    "scheduler": "DDIMScheduler",
    "guidance_scale": 7.5,
    "seed": 7203,
    "width": 48,
    "height": 32,
    "weights_sha256": "4bfd01c2" * 8,
    "model": "stable-diffusion-2-1",
    "model_revision": "5cae40e",
    "digital_source_type": TRAINED,
    "lightmill_version": "0.1.0",
    "attempt": "never told",
}
SAID = (
    "a red fox, 4k\nNegative prompt: blurry\nSteps: 25, Sampler: DDIMScheduler, CFG scale: 7.5, Seed: 7203, "
    "Size: 48x32, Model hash: 4bfd01c24b, Model: stable-diffusion-2-1, Version: lightmill 0.1.0"
)
PIXELS = natural_image(48, seed=1)[:32]
IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"
XMP = "{http://ns.adobe.com/xap/1.0/}"


def image_of(name, row=ROW, pixels=PIXELS):
    return encode(pixels, EncodingSettings(format=name), Imprint.of(row))


def parameters_of(data):
    """As a gallery reads them."""
    with Image.open(io.BytesIO(data)) as image:
        if image.format == "PNG":
            return image.info["parameters"]
        comment = image.getexif().get_ifd(IFD.Exif)[0x9286]
        assert comment[:8] == b"UNICODE\0"
        return comment[8:].decode("utf-16-be")


def xmp_of(data):
    with Image.open(io.BytesIO(data)) as image:
        packet = image.info["xmp"]
    text = (packet if isinstance(packet, str) else packet.decode()).lstrip("\ufeff")
    (described,) = ElementTree.fromstring(text).iter("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description")
    return {element.tag: element.text for element in described}


@pytest.mark.parametrize("name", ENCODERS)
def test_every_format_says_what_the_image_is(name):
    data = image_of(name)
    assert parameters_of(data) == SAID
    assert xmp_of(data) == {
        f"{IPTC}DigitalSourceType": f"http://cv.iptc.org/newscodes/digitalsourcetype/{TRAINED}",
        f"{IPTC}AISystemUsed": "stable-diffusion-2-1",
        f"{IPTC}AISystemVersionUsed": "5cae40e",
        f"{XMP}CreatorTool": "lightmill 0.1.0",
    }
    assert b"never told" not in data


@pytest.mark.parametrize("name", ENCODERS)
def test_the_pixels_are_those_of_the_plain_file(name):
    plain = encode(PIXELS, EncodingSettings(format=name))
    assert np.array_equal(decode(image_of(name)), decode(plain))
    assert b"trainedAlgorithmicMedia" not in plain


words = st.text(max_size=300) | st.sampled_from(
    ["-->", "]]>", "<a b='\"'>&amp;", "Steps: 1, Seed: 2", "\0", "лиса 🦊", "é"]
)


@pytest.mark.parametrize("name", ENCODERS)
@given(prompt=words, negative=words, model=words)
def test_any_words_come_back(name, prompt, negative, model):
    row = {**ROW, "prompt": prompt, "negative_prompt": negative, "model": model, "model_revision": model}
    data = image_of(name, row)
    lines = [prompt, f"Negative prompt: {negative}"] if negative.replace("\0", "") else [prompt]
    assert parameters_of(data).startswith("\n".join((*lines, "Steps: 25, ")).replace("\0", ""))
    assert xmp_of(data)[f"{IPTC}DigitalSourceType"].endswith(TRAINED)


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("letter", ["x", "é", "😀"])
def test_endless_words_are_cut(name, letter):
    endless = dict.fromkeys(("prompt", "negative_prompt", "model", "model_revision"), letter * 70_000)
    data = image_of(name, {**ROW, **endless})
    assert decode(data).shape == PIXELS.shape
    prompt = parameters_of(data).partition("\n")[0]
    assert prompt == letter * (MOST_CHARACTERS - 1) + "…"


@pytest.mark.parametrize("name", ENCODERS)
def test_equal_rows_give_equal_bytes(name):
    assert image_of(name, {**ROW, "attempt": "another", "created_at": "later"}) == image_of(name)


def test_what_a_row_does_not_say_is_left_out():
    row = {"prompt": "fox", "seed": 0, "guidance_scale": 0.0, "model": "fake", "digital_source_type": ALGORITHMIC}
    assert Imprint.of(row).parameters == "fox\nCFG scale: 0, Seed: 0, Model: fake, Version: lightmill unknown"
    assert b"digitalsourcetype/algorithmicMedia<" in Imprint.of(row).xmp


def test_half_characters_and_what_xml_cannot_hold_are_replaced():
    imprint = Imprint.of({"prompt": "f\ud800x", "model": "a\x01<b>&\ufffe"})
    assert imprint.parameters.startswith("f?x\n")
    assert b"<Iptc4xmpExt:AISystemUsed>a?&lt;b&gt;&amp;?</" in imprint.xmp
    assert imprint.exif


def test_the_model_is_named_without_the_folder_that_it_lay_in():
    lay = ["/home/jane/models/", "~/", "../", "./", "./jane/models/", "jane/models/old/", "../../jane/", ""]
    for imprint in (Imprint.of({"model": f"{folder}sd-2-1/" if folder else "sd-2-1"}) for folder in lay):
        assert "Model: sd-2-1," in imprint.parameters
        assert b">sd-2-1<" in imprint.xmp
    assert "Model: acme/sd-2-1," in Imprint.of({"model": "acme/sd-2-1"}).parameters


def test_separators_in_a_value_are_quoted():
    said = Imprint.of({"model": 'C:\\sd, "best"'}).parameters
    value = re.search(r'Model: ("(?:\\.|[^"])*"), Version', said)[1]
    assert json.loads(value) == 'C:\\sd, "best"'


def test_the_faults_that_fake_plays_are_not_told():
    for fault in ("boom", "a/b"):
        assert Imprint.of({"model": f"fake:fail={fault}"}) == Imprint.of({"model": "fake"})
