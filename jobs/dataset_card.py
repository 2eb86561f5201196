"""Dataset card: `README.md` of an output, with the front matter that dataset loaders read."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow.parquet as pq
import yaml

from actors import metadata
from actors.features import features
from actors.storage.bucket import Bucket
from jobs.index import Totals
from jobs.manifest import Manifest
from jobs.provenance import provenance

KEY = "README.md"
MOST_FILES = 1000
"""Named in the front matter: 40 kB of YAML. `datasets` takes a millisecond to resolve each, and a pattern instead would
take in what workers left when they died."""
BOUNDS = ((10**3, "1K"), (10**4, "10K"), (10**5, "100K"), (10**6, "1M"), (10**7, "10M"), (10**8, "100M"), (10**9, "1B"))
"""The hub's size categories run from one bound to the next."""
ROWS = "metadata/*.parquet"
"""What a loader gets where there are too many to name: every row, exactly once, and no picture."""
STAGES = """
Each stage made its images of those of the stage before: `parents` in a row names the image by its key, and only the
images of the last stage are the end of the way.
"""
MODEL = ["model", "model_revision", "model_license", "model_tier", "weights_sha256"]


def write(bucket: Bucket, manifest: Manifest, totals: Totals, files: Sequence[str]) -> None:
    """Write the card of a finished job; `files` are its tars or Parquet files."""
    matter = {**_front_matter(manifest, totals, files), **_features(bucket, files)}
    front = yaml.safe_dump(matter, sort_keys=False, allow_unicode=True)
    lanes = [_model(bucket, manifest, lane) for lane in range(len(manifest.lane_rows))]
    bucket.put(KEY, f"---\n{front}---\n\n{_body(manifest, totals, lanes, len(files))}".encode())


def _model(bucket: Bucket, manifest: Manifest, lane: int) -> Mapping[str, Any]:
    """What the first row of a lane says of its model; nothing where the lane has no rows."""
    shards = manifest.plan.lane_shards(lane)
    if not shards:
        return {"model": manifest.spec.lanes[lane].model}
    table = metadata.read_metadata(bucket.get(metadata.key(manifest.plan.shard(shards.start)))).table
    first: Mapping[str, Any] = table.select(MODEL).slice(0, 1).to_pylist()[0]
    return first


def _size_category(images: int) -> str:
    before = ""
    for below, label in BOUNDS:
        if images < below:
            return f"{before}n<{label}"
        before = f"{label}<"
    return "n>1B"


def _front_matter(manifest: Manifest, totals: Totals, files: Sequence[str]) -> Mapping[str, Any]:
    front: dict[str, Any] = {
        "pretty_name": manifest.spec.name,
        "task_categories": ["text-to-image"],
        "tags": ["synthetic", "lightmill"],
        "size_categories": [_size_category(totals.ok)],
    }
    if files:
        named = list(files) if len(files) <= MOST_FILES else ROWS
        front["configs"] = [{"config_name": "default", "data_files": [{"split": "train", "path": named}]}]
    return front


def _body(manifest: Manifest, totals: Totals, lanes: Sequence[Mapping[str, Any]], files: int) -> str:
    spec = manifest.spec
    models = "\n".join(
        f"| {number} | `{lane['model']}` | {rows:,} | {lane.get('model_license') or 'unknown'} "
        f"| {lane.get('model_tier') or 'unknown'} | `{(lane.get('weights_sha256') or '-')[:16]}` |"
        for number, (lane, rows) in enumerate(zip(lanes, manifest.lane_rows, strict=True))
    )
    each = "one image" if spec.images_per_prompt == 1 else f"{spec.images_per_prompt} images"
    return f"""# {spec.name}

{totals.ok:,} images made from a table of {manifest.rows:,} prompts; {totals.failed:,} failed and {totals.filtered:,} \
were filtered. Every promised image is one row of `metadata/*.parquet`, also where there is no picture, with the reason.

| {"stage" if spec.stages else "lane"} | model | rows | licence | tier | SHA-256 of the weights |
|---|---|---|---|---|---|
{models}
{STAGES if spec.stages else ""}
Made by lightmill {manifest.versions.get("lightmill", "?")}, seed {spec.seed}, {each} per prompt, \
{spec.encoding.format}. Prompts: `{manifest.table.uri}`.

{provenance(manifest, totals, lanes)}

## Read it

```python
import pyarrow.dataset as ds
rows = ds.dataset("metadata/", format="parquet").to_table(filter=ds.field("status") == "ok")
```

{_reading(manifest, files)}

`index.parquet` lists every file with its SHA-256; `lightmill verify` checks them all.
"""


def _features(bucket: Bucket, files: Sequence[str]) -> Mapping[str, Any]:
    """What the columns of Parquet files are, as each of them says, too; nothing where the files are not named."""
    if not files or len(files) > MOST_FILES or not files[0].endswith(".parquet"):
        return {}
    with bucket.open(files[0]) as file:
        return {"dataset_info": {"features": features(pq.read_schema(file))}}


def _reading(manifest: Manifest, files: int) -> str:
    sink = manifest.spec.sink
    if sink == "files":
        return "The column `file` is the path of each image, relative to this folder."
    named = "tars" if sink == "webdataset" else "Parquet files"
    pattern = "images/*.tar" if sink == "webdataset" else "images/*.parquet"
    many = f"\n\nThey are {files:,}, too many to be named above: what loaders find by themselves is the rows alone."
    return f"""```python
from datasets import load_dataset
images = load_dataset("{sink}", data_files=open("shards.txt").read().split(), split="train")
```

Read the {named} that `shards.txt` names, not `{pattern}`: a worker that died may have left others \
there.{many if files > MOST_FILES else ""}"""
