"""Input images as strangers leave them: what is wrong with one is told of it, and of no other."""

import io
import struct

import pytest
from PIL import Image

from actors.ingredients import InputFile
from actors.input_files import InputFiles
from actors.inputs import InputReader
from actors.models.model import ModelInfo
from actors.orders import Assignment
from actors.settings import StorageSettings
from actors.storage.folder import FolderBucket
from actors.tables.references import References
from lanes import make_batch, make_request

SIDE = 64
EXIF = b"MM\0\x2a\0\0\0\x08"
WORD = EXIF + struct.pack(">HHHI4sI", 1, 0x0112, 2, 2, b"6\0\0\0", 0)
"""An orientation that is a text."""


def picture(size=(SIDE, SIDE), mode="RGB", **how):
    file = io.BytesIO()
    Image.new(mode, size, 99).save(file, "PNG", **how)
    return file.getvalue()


@pytest.fixture
def reader(tmp_path):
    """For a table in this folder, of which the model does this task."""

    def build(task="image-to-image"):
        files = InputFiles(References(f"{tmp_path}/t.csv"), FolderBucket(tmp_path / "out"), StorageSettings())
        return InputReader(files, ModelInfo(model="m", task=task))

    return build


def requests(*files, kind="image", **more):
    named = [{"image": InputFile(files[0]), kind: InputFile(file)} for file in files]
    return [make_request(row=row, input_files=ones, **more) for row, ones in enumerate(named)]


@pytest.fixture
def bad(tmp_path):
    """Files that make libraries raise what they like, by what is said of them."""
    (tmp_path / "good.png").write_bytes(picture())
    (tmp_path / "ring.png").symlink_to("other.png")
    (tmp_path / "other.png").symlink_to("ring.png")
    (tmp_path / "torn.png").write_bytes(picture(exif=EXIF[:6]))
    return {"ring.png": "levels of symbolic links", "torn.png": "unpack", "\ud800.png": "UnicodeEncodeError"}


def test_whatever_a_file_makes_a_library_raise_fails_its_own_row(reader, bad):
    batch, failed = reader().attach(make_batch(*requests("good.png", *bad)), None)

    assert [request.prompt.id for request in batch.requests] == ["0"]
    assert {problem.code for _, problem in failed} == {"LM1618"}
    told = dict(zip(bad, (problem.message for _, problem in failed), strict=True))
    assert {name: said for name, said in bad.items() if said not in told[name]} == {}, told


def test_it_is_the_same_where_files_are_measured_for_an_upscaler(reader, bad):
    named = requests("good.png", *bad)
    found = reader("upscale").measured(Assignment(tuple(named), frozenset(one.key for one in named), ()))

    assert [(one.prompt.id, one.width) for one in found.requests] == [("0", 4 * SIDE)]
    assert {refusal.problem.code for refusal in found.refused} == {"LM1618"}


def test_an_orientation_that_is_no_number_turns_nothing(reader, tmp_path):
    (tmp_path / "word.png").write_bytes(picture((32, 64), exif=WORD))
    named = requests("word.png")
    upscaler = reader("upscale")

    found = upscaler.measured(Assignment(tuple(named), frozenset(), ())).requests

    assert [(one.width, one.height) for one in found] == [(128, 256)]
    assert upscaler.attach(make_batch(*found), None)[1] == []
