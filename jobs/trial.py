"""Trial: a job cut down to its first prompts, each for every model, in a folder of its own."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from actors.tables.references import folder_of
from actors.tables.source import open_source
from actors.tables.stream import stream
from jobs.spec import JobSpec


def trial_of(spec: JobSpec, prompts: int, folder: Path) -> JobSpec:
    """The job that draws one image of each of its first prompts with each of its models. Its own output is not touched.

    Ids, seeds and input images are those of the job, so these are the very images that it makes: where the table has no
    ids, a row's number is its id, and the first rows keep theirs. Raises `InputError` where the table cannot be read.
    """
    source = open_source(spec.prompts, spec.storage)
    rows = pa.Table.from_batches([], source.schema)
    for batch in stream(source, spec.storage, most=prompts):
        rows = pa.concat_tables([rows, batch.table.slice(0, prompts - rows.num_rows)])
        if rows.num_rows == prompts:
            break
    table = folder / "prompts.parquet"
    pq.write_table(rows, table)
    changes = {
        "prompts": str(table),
        "output": str(folder / "output"),
        "inputs": spec.inputs.model_copy(update={"folder": spec.inputs.folder or folder_of(source.identity.uri)}),
        "overrides": tuple(name for name in spec.overrides if name != "model"),
        "images_per_prompt": 1,
        "limits": spec.limits.model_copy(update={"max_failed_share": 1.0}),
    }
    return spec.model_copy(update=changes)
