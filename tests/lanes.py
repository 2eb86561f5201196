"""A lane as a worker gets it: a small table, a folder for the output, and a recipe. And single requests."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from actors.models.registry import find_card
from actors.models.settings import ModelSettings
from actors.recipe import LaneRecipe
from actors.records import Batch, ImageRequest, Prompt, Shard, ShardOrder
from actors.settings import (
    CheckSettings,
    EncodingSettings,
    FilterSettings,
    InputSettings,
    PolicySettings,
    StorageSettings,
)
from actors.tables.source import open_source

NO_POLICY = PolicySettings()


def make_request(text="a red fox", seed=1, *, row=0, side=64, steps=2, guidance=7.5, negative="", **more):
    """One image, valid by default."""
    request = ImageRequest(
        prompt=Prompt(source_row=row, id=str(row), text=text),
        image_index=0,
        lane=0,
        negative_prompt=negative,
        seed=seed,
        seed_rejected=None,
        width=side,
        height=side,
        num_inference_steps=steps,
        guidance_scale=guidance,
    )
    return replace(request, **more)


def make_batch(*requests, size=None):
    return Batch(tuple(requests), size or len(requests))


def make_recipe(
    folder: Path, rows, *, model="fake", checks="fail", policy=NO_POLICY, overrides=(), images_per_prompt=1, **settings
):
    """A recipe over a Parquet file of these rows, each a prompt or a dictionary; `settings` are the model's."""
    columns = [row if isinstance(row, dict) else {"prompt": row} for row in rows]
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(columns), folder / "prompts.parquet")
    storage = StorageSettings()
    return LaneRecipe(
        lane=0,
        card=find_card(model),
        model=ModelSettings(model=model, **{"width": 16, "height": 16, "batch_size": 4, **settings}),
        table=open_source(str(folder / "prompts.parquet"), storage).table(),
        columns={},
        overrides=overrides,
        seed=7,
        images_per_prompt=images_per_prompt,
        output=str(folder / "out"),
        sink="webdataset",
        encoding=EncodingSettings(format="png"),
        checks=CheckSettings(blank=checks),
        policy=policy,
        prompt_filter=FilterSettings(),
        blocked=(),
        inputs=InputSettings(),
        storage=storage,
        batch_timeout_seconds=60,
    )


def make_order(stop, *, start=0, index=0, **more):
    return ShardOrder(shard=Shard(index, 0, start, stop), **more)
