"""Features: what Hugging Face's datasets calls the columns of a Parquet file with images."""

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.types as pt

IMAGE = "image"
"""The column with the images."""
IMAGE_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
HINT = {"info": {"features": {IMAGE: {"_type": "Image"}}}}
"""For the entry `huggingface` of a file: what cannot be seen by the types. That of the other columns can."""
OTHER_NAMES = {"float": "float32", "double": "float64"}
"""Arrow's name of a type to that of datasets; the rest are equal."""


def has_feature(kind: pa.DataType) -> bool:
    """Whether datasets has a word for a type in which columns are carried. A file with another one it does not load."""
    inner = [kind.field(number).type for number in range(kind.num_fields)]
    return not pt.is_map(kind) and all(map(has_feature, inner))


def features(fields: Iterable[pa.Field]) -> list[dict[str, Any]]:
    """The columns of such a file, or the fields of a struct, as a dataset card lists them."""
    return [{"name": field.name, **_feature(field)} for field in fields]


def _feature(field: pa.Field) -> dict[str, Any]:
    if (field.name, field.type) == (IMAGE, IMAGE_TYPE):
        return {"dtype": "image"}
    if pt.is_struct(field.type):
        return {"struct": features(field.type)}
    if pt.is_list(field.type):
        inner = _feature(field.type.value_field)
        return {"list": next(iter(inner.values())) if inner.keys() & {"dtype", "struct"} else inner}
    return {"dtype": OTHER_NAMES.get(str(field.type), str(field.type))}
