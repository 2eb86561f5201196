"""Schedulers by the names that people know: the pictures are those of diffusers, and what was trained is kept."""

import json
from importlib import resources

import diffusers
import numpy as np
import pytest
import yaml

from actors.errors import InputError
from actors.models.call import guidance_parameter
from actors.models.pipelines import parameters
from actors.models.sampling import set_scheduler
from actors.models.schedulers import SCHEDULERS
from actors.models.settings import ModelSettings
from actors.models.tiny import tiny_folder
from lanes import make_batch, make_request
from painting import REQUESTS, load, made, own_pipeline, painted, recipe_of, refused
from pipelines import copy_of_tiny


@pytest.fixture(scope="module")
def velocity(tmp_path_factory):
    """A folder whose weights predict velocity, as far as its scheduler knows, and diffusers' own pipeline of it."""
    folder = copy_of_tiny(tiny_folder(), tmp_path_factory.mktemp("models") / "v")
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "prediction_type": "v_prediction"}))
    pipeline = own_pipeline(folder)
    return folder, pipeline, pipeline.scheduler.config


@pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")  # within diffusers' schedulers
@pytest.mark.parametrize("name", [name for name in SCHEDULERS if "lms" not in name and not name.endswith("Scheduler")])
def test_a_scheduler_is_the_one_of_diffusers_and_keeps_the_prediction_type(velocity, name):
    folder, pipeline, config = velocity
    model = load(folder, scheduler=name)
    scheduler_class = getattr(diffusers, SCHEDULERS[name].class_name)
    pipeline.scheduler = scheduler_class.from_config(config, **SCHEDULERS[name].options)
    requests = [make_request(r.prompt.text, r.seed, row=n, side=32, steps=3) for n, r in enumerate(REQUESTS)]

    pixels = model.generate(make_batch(*requests)).pixels

    np.testing.assert_array_equal(pixels, painted(pipeline, requests))
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    assert pipeline.scheduler.config.beta_schedule == "scaled_linear"
    assert model.info.scheduler == scheduler_class.__name__
    assert recipe_of(model)["scheduler"]["name"] == name
    assert recipe_of(model)["scheduler"]["prediction_type"] == "v_prediction"
    # Noise that is added on the way is each image's own, too.
    np.testing.assert_array_equal(model.generate(make_batch(requests[1], size=2)).pixels[0], pixels[1])


@pytest.mark.parametrize("scheduler", [{"name": "DDIMScheduler"}, None])
def test_a_card_knows_what_weights_do_not_say(velocity, folder, tmp_path, scheduler):
    card = tmp_path / "mine.yaml"
    words = yaml.safe_load((resources.files("actors.models") / "cards" / "tiny.yaml").read_text())
    place = {"name": "mine", "id": str(folder), "format": "folder"}
    how = {"prediction_type": "v_prediction", "scheduler": scheduler}
    card.write_text(yaml.safe_dump({**words, **place, **how}))

    model = load(card)

    np.testing.assert_array_equal(model.generate(make_batch(*REQUESTS)).pixels, made(velocity[0]))
    assert recipe_of(model) == {"scheduler": {"name": "DDIMScheduler", "prediction_type": "v_prediction"}}
    assert recipe_of(load(card, scheduler="euler"))["scheduler"]["prediction_type"] == "v_prediction"


def test_a_scheduler_goes_by_its_class_too(velocity):
    model = load(velocity[0], scheduler="pndmscheduler")

    assert (model.info.scheduler, recipe_of(model)["scheduler"]["skip_prk_steps"]) == ("PNDMScheduler", True)


@pytest.mark.parametrize(
    ("said", "meant"),
    [("DPM++ 2M Karras", "dpm++ 2m karras"), ("k_euler_ancestral", "euler a"), ("dpmpp_2m_sde", "dpm++ 2m sde")],
)
def test_schedulers_are_known_by_the_names_of_other_programs(said, meant):
    assert ModelSettings(model="tiny", scheduler=said).scheduler == meant


def test_an_unknown_scheduler_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"did you mean dpm\+\+ 2m karras\?"):
        ModelSettings(model="tiny", scheduler="dpm+ 2m karas")


def test_what_a_model_was_trained_with_is_never_dropped(tmp_path):
    folder = copy_of_tiny(tiny_folder(), tmp_path / "zero-snr")
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "rescale_betas_zero_snr": True}))

    ((code, message),) = refused(folder, scheduler="heun")
    assert code == "LM1222"
    assert "cannot keep what this model was trained with (rescale_betas_zero_snr: True)" in message
    assert recipe_of(load(folder, scheduler="euler"))["scheduler"]["rescale_betas_zero_snr"] is True


@pytest.mark.parametrize("how", [{"use_flow_sigmas": True}, {"prediction_type": "flow_prediction"}])
def test_a_flow_of_its_own_is_kept(how):
    class Sana:
        scheduler = diffusers.DPMSolverMultistepScheduler(**how)

    with pytest.raises(InputError, match="LM1222"):
        set_scheduler(Sana(), "euler")


@pytest.mark.parametrize(
    ("pipeline", "name"),
    [
        ("QwenImagePipeline", "true_cfg_scale"),
        ("FluxPipeline", "guidance_scale"),
        ("StableDiffusionPipeline", "guidance_scale"),
    ],
)
def test_guidance_goes_by_the_name_that_the_pipeline_has_for_it(pipeline, name):
    assert guidance_parameter(parameters(getattr(diffusers, pipeline))) == name


def test_a_scheduler_whose_library_is_not_installed_is_refused(folder, monkeypatch):
    class Dummy:
        _backends = ("torch", "scipy")

    monkeypatch.setattr(diffusers, "LMSDiscreteScheduler", Dummy)

    assert refused(folder, scheduler="lms") == [("LM1222", "LMSDiscreteScheduler needs scipy, which is not installed")]
