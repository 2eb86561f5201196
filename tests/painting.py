"""The same pictures by two ways: by lightmill, and by diffusers' own pipeline."""

import json

import diffusers
import numpy as np
import pytest
import torch

from actors.errors import InputError
from actors.models.loading import load_model
from actors.models.settings import ModelSettings
from actors.models.trust import weights_sha256
from lanes import make_batch, make_request

REQUESTS = [make_request("a red fox", 1), make_request("a lighthouse", 2, row=1)]


def own_pipeline(folder):
    torch.set_num_threads(1)
    found = diffusers.DiffusionPipeline.from_pretrained(str(folder), local_files_only=True)
    found.set_progress_bar_config(disable=True)
    return found


def painted(pipeline, requests=REQUESTS, **more):
    output = pipeline(
        prompt=[request.prompt.text for request in requests],
        height=requests[0].height,
        width=requests[0].width,
        num_inference_steps=requests[0].num_inference_steps,
        guidance_scale=7.5,
        generator=[torch.Generator().manual_seed(request.seed) for request in requests],
        **more,
    )
    return np.stack([np.asarray(image) for image in output.images])


def made(model, requests=REQUESTS, **settings):
    return load(model, **settings).generate(make_batch(*requests)).pixels


def load(model, **settings):
    return load_model(ModelSettings(model=str(model), **settings), device="cpu")


def refused(model, **settings):
    with pytest.raises(InputError) as caught:
        load(model, **settings)
    return [(problem.code, problem.message) for problem in caught.value.problems]


def recipe_of(model):
    return json.loads(model.info.recipe)


def trusted(path):
    return {"allow_pickle": True, "sha256": weights_sha256(path)}
