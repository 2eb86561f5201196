"""Pictures from other pictures: what diffusers makes of them, from files that a table names."""

import hashlib
import json
import struct
import zlib

import diffusers
import numpy as np
import pytest
import stamina
import torch
from PIL import Image

from actors.encoding import decode
from actors.errors import InputError
from actors.imprint import COMPOSITE
from actors.models.facts import describe_model
from actors.models.loading import load_model
from actors.models.settings import ModelSettings
from actors.models.tiny import tiny_folder
from actors.storage.opening import open_bucket
from actors.tables.references import References, folder_of
from actors.urls import Url
from builders import QuietLeash, drive, finished, make_spec, make_table, read_rows
from jobs.forecast import forecast
from jobs.order import ReproduceOrder
from jobs.reproduce import reproduce
from jobs.trial import trial_of
from pipelines import save_depth, save_inpainting, save_upscaler, save_xl
from servers.web import web_server

pytestmark = [
    pytest.mark.filterwarnings("ignore:In CPU autocast:UserWarning"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]
PROMPTS = ["a red fox", "a lighthouse at night", "a whale"]
SIDE = 64


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A pipeline of each structure, by the name that the tests below give it."""
    top = tmp_path_factory.mktemp("models")
    return {
        "tiny": tiny_folder(),
        "xl": save_xl(tiny_folder(), top / "xl"),
        "inpainting": save_inpainting(tiny_folder(), top / "inpainting"),
        "depth": save_depth(tiny_folder(), top / "depth"),
        "upscaler": save_upscaler(tiny_folder(), top / "upscaler"),
    }


@pytest.fixture
def web():
    with web_server() as server, stamina.set_testing(True, attempts=2, cap=True):
        yield server


def draw(path, seed, size=(SIDE, SIDE), mode="RGB"):
    """A soft picture that is another for each seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = 3 if mode == "RGB" else 1
    few = np.random.default_rng(seed).integers(0, 256, (4, 4, channels), dtype=np.uint8)
    image = Image.fromarray(few if channels == 3 else few[:, :, 0]).resize(size, Image.Resampling.BICUBIC)
    image.save(path)
    return path.name


def pictures(folder, **made):
    """Columns of file names, one file a prompt."""
    return {
        column: [f"in/{draw(folder / 'in' / f'{column}{row}.png', row, **how)}" for row in range(len(PROMPTS))]
        for column, how in made.items()
    }


def run(folder, model, columns, prompts=PROMPTS, overrides=None, inputs=None, **settings):
    """The job's spec, once it is done, with one batch for all rows."""
    known = {"num_inference_steps": 4, "threads": 1, "batch_size": len(prompts), "width": None, "height": None}
    return finished(
        folder,
        table=make_table(folder, prompts, **columns),
        overrides=overrides or tuple(columns),
        models=[{"model": str(model), **known, **settings}],
        limits={"max_failed_share": 1},
        inputs=inputs or {},
    )


def made(spec):
    """Rows in order, and the pixels of those that have any."""
    rows = [row for _, row in sorted(read_rows(spec).items())]
    bucket = open_bucket(spec.output)
    return rows, [
        decode(bucket.read(row["file"], row["file_offset"], row["file_length"])) for row in rows if row["file"]
    ]


def as_diffusers_makes(pipeline_class, folder, rows, **inputs):
    torch.set_num_threads(1)
    pipeline = pipeline_class.from_pretrained(str(folder), local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    output = pipeline(
        prompt=[row["prompt"] for row in rows],
        generator=[torch.Generator().manual_seed(row["seed"]) for row in rows],
        num_inference_steps=4,
        **inputs,
    )
    return [np.asarray(image) for image in output.images]


def opened(folder, names, mode="RGB"):
    return [Image.open(folder / name).convert(mode) for name in names]


@pytest.mark.parametrize(
    ("model", "pipeline_class"),
    [("tiny", diffusers.StableDiffusionImg2ImgPipeline), ("xl", diffusers.StableDiffusionXLImg2ImgPipeline)],
)
def test_image_to_image_is_that_of_diffusers_byte_for_byte(tmp_path, folders, model, pipeline_class):
    columns = pictures(tmp_path, image={})
    spec = run(tmp_path, folders[model], columns, task="image-to-image", strength=0.6)
    rows, pixels = made(spec)
    images = opened(tmp_path, columns["image"])
    np.testing.assert_array_equal(
        pixels, as_diffusers_makes(pipeline_class, folders[model], rows, image=images, strength=0.6)
    )
    assert [row["image"] for row in rows] == columns["image"]
    assert {row["strength"] for row in rows} == {0.6}
    assert {row["digital_source_type"] for row in rows} == {COMPOSITE}
    assert json.loads(rows[0]["recipe"])["task"] == "image-to-image"


@pytest.mark.parametrize(
    ("model", "pipeline_class"),
    [
        ("inpainting", diffusers.StableDiffusionInpaintPipeline),
        ("tiny", diffusers.StableDiffusionInpaintPipeline),
        ("xl", diffusers.StableDiffusionXLInpaintPipeline),
    ],
)
def test_inpainting_is_that_of_diffusers_with_four_channels_and_with_nine(tmp_path, folders, model, pipeline_class):
    columns = pictures(tmp_path, image={}, mask_image={"mode": "L"})
    spec = run(tmp_path, folders[model], columns, task="inpainting")
    rows, pixels = made(spec)
    images, masks = opened(tmp_path, columns["image"]), opened(tmp_path, columns["mask_image"], "L")
    theirs = as_diffusers_makes(
        pipeline_class, folders[model], rows, image=images, mask_image=masks, width=SIDE, height=SIDE
    )
    np.testing.assert_array_equal(pixels, theirs)


def test_depth_is_estimated_or_taken_from_a_map(tmp_path, folders):
    columns = pictures(tmp_path, image={})
    maps = pictures(tmp_path, depth_map={"mode": "L"})["depth_map"]
    spec = run(tmp_path, folders["depth"], {**columns, "depth_map": [maps[0], "", maps[2]]})
    rows, pixels = made(spec)
    images = opened(tmp_path, columns["image"])
    pipeline_class, folder = diffusers.StableDiffusionDepth2ImgPipeline, folders["depth"]
    (estimated,) = as_diffusers_makes(pipeline_class, folder, rows[1:2], image=images[1:2])
    depths = [np.asarray(depth, np.float32) for depth in opened(tmp_path, [maps[0], maps[2]], "L")]
    spread = torch.stack([torch.tensor((depth - depth.min()) / (depth.max() - depth.min())) for depth in depths])
    told = as_diffusers_makes(pipeline_class, folder, rows[::2], image=images[::2], depth_map=spread)
    np.testing.assert_array_equal(pixels, [told[0], estimated, told[1]])
    assert [row["batch_size"] for row in rows] == [2, 1, 2]


def test_a_picture_is_upscaled_to_four_times_its_own_size(tmp_path, folders):
    columns = pictures(tmp_path, image={"size": (24, 16)})
    spec = run(tmp_path, folders["upscaler"], columns, noise_level=40)
    rows, pixels = made(spec)
    images = opened(tmp_path, columns["image"])
    theirs = as_diffusers_makes(
        diffusers.StableDiffusionUpscalePipeline, folders["upscaler"], rows, image=images, noise_level=40
    )
    np.testing.assert_array_equal(pixels, theirs)
    assert {(row["width"], row["height"], row["strength"]) for row in rows} == {(96, 64, None)}
    assert json.loads(rows[0]["recipe"])["noise_level"] == 40


def test_an_input_of_another_size_is_stretched_and_lies_as_its_camera_says(tmp_path, folders):
    photo = Image.open(tmp_path / "in" / draw(tmp_path / "in" / "wide.png", 1, (90, 50)))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    photo.save(tmp_path / "in" / "held.png", exif=exif)
    names = ["in/wide.png", "in/held.png"]
    spec = run(tmp_path, "tiny", {"image": names, "width": [48, 48]}, PROMPTS[:2], task="image-to-image")
    rows, pixels = made(spec)
    turned = photo.transpose(Image.Transpose.ROTATE_270)
    images = [image.resize((48, SIDE), Image.Resampling.LANCZOS) for image in (photo, turned)]
    theirs = as_diffusers_makes(diffusers.StableDiffusionImg2ImgPipeline, folders["tiny"], rows, image=images)
    np.testing.assert_array_equal(pixels, theirs)
    assert {(row["width"], row["height"]) for row in rows} == {(48, SIDE)}


def bomb(path):
    """A PNG of a few bytes that says it has 40,000 by 40,000 pixels."""
    header = (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    )
    path.write_bytes(header + struct.pack(">I", zlib.crc32(header[12:])) + struct.pack(">I", 64) + b"IDAT" + b"\0" * 68)


def test_a_bad_input_fails_its_own_row_and_no_neighbour_changes_by_a_byte(tmp_path):
    names = [f"in/{draw(tmp_path / 'in' / f'{row}.png', row)}" for row in range(5)]
    good = run(tmp_path, "tiny", {"image": names}, ["a fox"] * 5, task="image-to-image")
    other = tmp_path / "other"
    (other / "in").mkdir(parents=True)
    for name in names[:2]:
        (other / name).write_bytes((tmp_path / name).read_bytes())
    (other / "in" / "text.png").write_text("no picture at all")
    (other / "in" / "out.png").symlink_to(tmp_path / names[2])
    bomb(other / "in" / "bomb.png")
    named = [names[0], "in/text.png", "in/bomb.png", "in/gone.png", "in/out.png"]
    spec = run(other, "tiny", {"image": named}, ["a fox"] * 5, task="image-to-image")
    (first, *others), _pixels = made(spec)
    assert [(row["status"], row["error_code"]) for row in others] == [
        ("failed", "LM1618"),
        ("failed", "LM1618"),
        ("failed", "LM1618"),
        ("failed", "LM1031"),
    ]
    said = [
        "neither WebP",
        "Image size (1600000000 pixels) exceeds limit",
        "in/gone.png: No such file",
        "a link leads out",
    ]
    assert [word for word, row in zip(said, others, strict=True) if word not in row["error"]] == [], [
        row["error"] for row in others
    ]
    assert [row["image"] for row in others] == named[1:]
    assert first["sha256"] == made(good)[0][0]["sha256"]
    assert first["batch_size"] == 4  # a shard, of which one picture is left


@pytest.mark.parametrize(
    ("reference", "why"),
    [
        ("http://169.254.169.254/latest/meta-data", "the job does not allow that place"),
        ("HTTPS://example.com/a.png", "the job does not allow that place"),
        ("http://[::1]/a.png", "the job does not allow that place"),
        ("s3://others/a.png", "the job does not allow that place"),
        ("file:///etc/passwd", "nothing is fetched from file:"),
        ("data:image/png;base64,AAAA", "nothing is fetched from data:"),
        ("/etc/passwd", "not relative"),
        ("~/a.png", "not relative"),
        ("../a.png", "with .."),
        ("in/../../a.png", "with .."),
        ("s3://bucket/../other/a.png", "with . or .."),
        ("s3://bucket", "names no object"),
        ("s3:///a.png", "names no bucket"),
        ("a\0.png", "NUL"),
        ("a" * 2000, "1,024 bytes"),
    ],
)
def test_references_that_lead_elsewhere_are_found_before_anything_runs(tmp_path, reference, why):
    table = make_table(tmp_path, ["a fox", "an owl"], image=[reference, "in/a.png"])
    model = {"model": "tiny", "task": "image-to-image"}
    report = forecast(make_spec(tmp_path, table=table, overrides=["image"], models=[model]), "all").report
    assert [(problem.code, problem.count) for problem in report.problems] == [("LM1031", 1)]
    assert why in report.problems[0].message
    assert report.bad_rows == 1


def test_paths_are_relative_to_the_tables_folder_wherever_it_is():
    assert folder_of("s3://in/2024/captions.parquet") == "s3://in/2024"
    assert folder_of("s3://in/2024/part-*.csv.gz") == "s3://in/2024"
    assert folder_of("s3://in/2024") == "s3://in/2024"
    meant = References("s3://in/2024/captions.parquet").place_of("photos/a.png")
    assert meant == Url.parse("s3://in/2024/photos/a.png")
    assert meant.target == "2024/photos/a.png"


def test_a_table_may_lie_apart_from_its_pictures_and_still_leads_nowhere_else(tmp_path):
    (tmp_path / "photos").mkdir()
    references = References(str(tmp_path / "tables/captions.csv"), folder=f"{tmp_path}/photos/")
    assert references.place_of("a.png") == (tmp_path / "photos/a.png").resolve()
    assert "leads out" in references.why_refused("../tables/captions.csv")
    (tmp_path / "photos/link").symlink_to(tmp_path)
    with pytest.raises(InputError, match="LM1031"):
        references.place_of("link/tables/captions.csv")
    meant = References("/tables/captions.csv", folder="s3://in/2024/").place_of("a.png")
    assert meant.target == "2024/a.png"


def test_a_trial_of_a_job_has_its_input_images(tmp_path):
    draw(tmp_path / "in/a.png", 1)
    spec = run(tmp_path, "tiny", {"image": ["in/a.png"]}, ["a fox"], task="image-to-image")
    (tmp_path / "trial").mkdir()
    trial = trial_of(spec, 1, tmp_path / "trial")
    drive(trial)
    (row,), (tried,) = read_rows(spec).values(), read_rows(trial).values()
    assert (tried["status"], tried["sha256"], tried["image"]) == ("ok", row["sha256"], "in/a.png")
    (tmp_path / "trial/again").mkdir()
    assert trial_of(trial, 1, tmp_path / "trial/again").inputs == trial.inputs


def test_inputs_come_from_a_store_and_what_is_missing_there_fails_its_row(tmp_path, moto_store):
    draw(tmp_path / "a.png", 1)
    bucket = open_bucket(f"{moto_store.url}/photos")
    bucket.put("a.png", (tmp_path / "a.png").read_bytes())
    names = [f"{bucket.url}/a.png", f"{bucket.url}/b.png", "a.png"]
    columns, inputs = {"image": names, "seed": [7] * 3}, {"allow": [bucket.url]}
    rows, pixels = made(run(tmp_path, "tiny", columns, ["a fox"] * 3, inputs=inputs, task="image-to-image"))
    assert [row["error_code"] for row in rows] == [None, "LM1618", None]
    np.testing.assert_array_equal(pixels[0], pixels[1])


def test_inputs_come_from_the_web_where_the_job_allows_it_and_are_told_from_later_ones(tmp_path, web):
    path = tmp_path / draw(tmp_path / "a.png", 1)
    web.files |= {"/cats/a.png": path.read_bytes(), "/cats/text.png": b"no picture", "/cats/b.png": "/dogs/b.png"}
    # Both of the good ones in one shard: another size of batch moves pictures by a rounding step.
    names = [f"{web.url}/cats/a.png", "a.png", *(f"{web.url}/cats/{name}.png" for name in ("gone", "text", "b"))]
    columns, inputs = {"image": names, "seed": [7] * 5}, {"allow": [f"{web.url}/cats/"]}
    spec = run(tmp_path, "tiny", columns, ["a fox"] * 5, inputs=inputs, task="image-to-image")
    rows, pixels = made(spec)
    assert [row["error_code"] for row in rows] == [None, None, "LM1618", "LM1618", "LM1618"]
    said = ["the server says 404", "neither WebP", "it leads on to"]
    assert [word for word, row in zip(said, rows[2:], strict=True) if word not in row["error"]] == []
    np.testing.assert_array_equal(pixels[0], pixels[1])
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert json.loads(rows[0]["recipe"])["inputs"] == {"image": {"file": names[0], "sha256": sha256}}
    web.files["/cats/a.png"] = (tmp_path / draw(tmp_path / "later.png", 2)).read_bytes()
    leash = QuietLeash()
    assert reproduce(ReproduceOrder(output=spec.output, storage=spec.storage), leash) == 1
    assert [(image["id"], "LM1617" in image["reason"]) for image in leash.images] == [("0", True)]


def test_a_depth_map_of_one_depth_is_told_apart_from_a_failed_picture(tmp_path, folders):
    columns = pictures(tmp_path, image={})
    Image.new("L", (SIDE, SIDE), 99).save(tmp_path / "flat.png")
    deep = np.linspace(0, 65535, SIDE * SIDE).reshape(SIDE, SIDE).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    maps = ["flat.png", "deep.png", "deep.png"]
    rows, _ = made(run(tmp_path, folders["depth"], {**columns, "depth_map": maps}))
    assert [row["status"] for row in rows] == ["failed", "ok", "ok"]
    assert (rows[0]["error_code"], "at one depth" in rows[0]["error"]) == ("LM1618", True)


def test_rows_that_the_model_cannot_make_anything_of_say_why(tmp_path, folders):
    image = f"in/{draw(tmp_path / 'in' / 'a.png', 1)}"
    columns = {"image": ["", image, image], "strength": ["", "0.1", "1.5"]}
    rows, _ = made(run(tmp_path, "tiny", columns, task="image-to-image"))
    assert [row["error_code"] for row in rows] == ["LM1031", "LM1032", "LM1032"]
    assert "leaves none of 4 steps" in rows[1]["error"]


def test_inputs_that_cannot_be_upscaled_say_why(tmp_path, folders):
    draw(tmp_path / "odd.png", 1, (20, 16))
    draw(tmp_path / "even.png", 1, (24, 16))
    columns = {"image": ["odd.png", "gone.png", "even.png"], "noise_level": ["", "", "351"]}
    rows, _ = made(run(tmp_path, folders["upscaler"], columns))
    assert [row["error_code"] for row in rows] == ["LM1006", "LM1618", "LM1033"]


def test_a_task_without_its_columns_is_refused_by_plan_and_by_the_worker(tmp_path, folders):
    table = make_table(tmp_path, PROMPTS, image=["a.png"] * 3)
    spec = make_spec(tmp_path, table=table, models=[{"model": str(folders["inpainting"])}], overrides=["image"])
    (refusal,) = forecast(spec, "all").refusals
    assert refusal.code == "LM1209"
    assert "mask_image" in refusal.message
    assert drive(spec).ends[-1][0] == 3


@pytest.mark.parametrize(
    ("model", "task"), [("inpainting", "text-to-image"), ("upscaler", "inpainting"), ("tiny", "upscale")]
)
def test_a_model_does_not_do_every_task(folders, model, task):
    with pytest.raises(InputError, match=f"LM1206.* does not do {task}: it is for "):
        load_model(ModelSettings(model=str(folders[model]), task=task))


def test_settings_of_another_task_are_refused_instead_of_ignored():
    with pytest.raises(InputError, match="LM1210.*strength and noise_level of tiny would change nothing") as refusal:
        describe_model(ModelSettings(model="tiny", strength=0.5, noise_level=3))
    assert refusal.value.problems[0].help == "leave it out"  # no task of this model has both
    with pytest.raises(InputError, match="LM1210") as refusal:
        describe_model(ModelSettings(model="tiny", strength=0.5))
    assert refusal.value.problems[0].help == "leave it out, or say `task:`, such as image-to-image or inpainting"


@pytest.fixture(scope="module")
def repainted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("repainted")
    columns = pictures(folder, image={}, mask_image={"mode": "L"})
    return folder, run(folder, "tiny", columns, task="inpainting", strength=0.7)


def test_pictures_of_pictures_are_made_again_from_their_rows(repainted):
    _folder, spec = repainted
    leash = QuietLeash()
    assert reproduce(ReproduceOrder(output=spec.output, storage=spec.storage), leash) == 0
    assert leash.ends[-1][1]["verdicts"] == {"identical": 3, "rounding": 0, "different": 0}


def test_an_input_that_is_another_by_now_is_said(repainted):
    folder, spec = repainted
    before = (folder / "in" / "image1.png").read_bytes()
    draw(folder / "in" / "image1.png", 99)
    leash = QuietLeash()
    try:
        assert reproduce(ReproduceOrder(output=spec.output, storage=spec.storage), leash) == 1
    finally:
        (folder / "in" / "image1.png").write_bytes(before)
    (image,) = leash.images
    assert image["id"] == "1"
    assert "LM1617" in image["reason"]


def test_upscaled_pictures_are_made_again_with_their_noise(tmp_path, folders):
    columns = pictures(tmp_path, image={"size": (24, 16)})
    spec = run(tmp_path, folders["upscaler"], {**columns, "noise_level": [5, 5, 60]})
    leash = QuietLeash()
    assert reproduce(ReproduceOrder(output=spec.output, storage=spec.storage), leash) == 0
    assert leash.ends[-1][1]["verdicts"]["identical"] == 3
