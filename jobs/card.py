"""Dataset card: `README.md` of an output, with the front matter that dataset loaders read."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from actors.storage.bucket import Bucket
from jobs.index import Totals
from jobs.manifest import Manifest

KEY = "README.md"
SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))


def write(bucket: Bucket, manifest: Manifest, totals: Totals, tars: Sequence[str]) -> None:
    """Write the card of a finished job."""
    front = yaml.safe_dump(_front_matter(manifest, totals, tars), sort_keys=False, allow_unicode=True)
    bucket.put(KEY, f"---\n{front}---\n\n{_body(manifest, totals)}".encode())


def _front_matter(manifest: Manifest, totals: Totals, tars: Sequence[str]) -> Mapping[str, Any]:
    size = next((label for below, label in SIZES if totals.ok < below), "n>10M")
    front: dict[str, Any] = {
        "pretty_name": manifest.spec.name,
        "task_categories": ["text-to-image"],
        "tags": ["synthetic", "lightmill"],
        "size_categories": [size],
    }
    if tars:
        front["configs"] = [{"config_name": "default", "data_files": [{"split": "train", "path": list(tars)}]}]
    return front


def _body(manifest: Manifest, totals: Totals) -> str:
    spec = manifest.spec
    models = "\n".join(
        f"| {number} | `{lane.model}` | {rows:,} |"
        for number, (lane, rows) in enumerate(zip(spec.models, manifest.lane_rows, strict=True))
    )
    return f"""# {spec.name}

{totals.ok:,} images made from a table of {manifest.rows:,} prompts; {totals.failed:,} failed and {totals.filtered:,} \
were filtered. Every promised image is one row of `metadata/*.parquet`, also where there is no picture, with the reason.

| lane | model | rows |
|---|---|---|
{models}

Made by lightmill {manifest.versions.get("lightmill", "?")}, seed {spec.seed}, {spec.images_per_prompt} image(s) per \
prompt, {spec.encoding.format}. Prompts: `{manifest.table.uri}`.

## Read it

```python
import pyarrow.dataset as ds
rows = ds.dataset("metadata/", format="parquet").to_table(filter=ds.field("status") == "ok")
```

{_reading(manifest)}

`index.parquet` lists every file with its SHA-256; `lightmill verify` checks them all.
"""


def _reading(manifest: Manifest) -> str:
    if manifest.spec.sink == "files":
        return "The column `file` is the path of each image, relative to this folder."
    return """```python
from datasets import load_dataset
images = load_dataset("webdataset", data_files=open("shards.txt").read().split(), split="train")
```

Read the tars that `shards.txt` names, not `images/*.tar`: a worker that died may have left others there."""
