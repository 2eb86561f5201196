"""The types in which columns of the user's table are carried: those that survive a way through Python unharmed.

Times become text (ISO 8601): Python's end at year 9999 and at microseconds, Arrow's do not, and one such value must not
end a worker. Dictionaries are decoded, `large_` and `_view` variants and extension types become the plain type below.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.types as pt

from actors.errors import InputError, Problem


def carried_schema(schema: pa.Schema) -> pa.Schema:
    """The schema that rows of this one are carried in."""
    require_unique(schema.names, "column")
    return pa.schema([pa.field(column.name, carried_type(column.type)) for column in schema])


def carried_type(kind: pa.DataType) -> pa.DataType:
    """The type that values of this one are carried in."""
    if isinstance(kind, pa.BaseExtensionType):
        return carried_type(kind.storage_type)
    if pt.is_dictionary(kind):
        return carried_type(kind.value_type)
    if pt.is_nested(kind):
        return _carried_nested(kind)
    if pt.is_temporal(kind) or pt.is_null(kind) or pt.is_large_string(kind) or pt.is_string_view(kind):
        return pa.string()
    if pt.is_large_binary(kind) or pt.is_binary_view(kind) or pt.is_fixed_size_binary(kind):
        return pa.binary()
    return pa.float32() if pt.is_float16(kind) else kind


def _carried_nested(kind: pa.DataType) -> pa.DataType:
    if pt.is_struct(kind):
        require_unique([inner.name for inner in kind], "field")
        return pa.struct([(inner.name, carried_type(inner.type)) for inner in kind])
    if pt.is_map(kind):
        return pa.map_(carried_type(kind.key_type), carried_type(kind.item_type))
    return pa.list_(carried_type(kind.value_type))


def cast(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table's columns, in the order and types of `schema`."""
    return pa.table([_cast(table.column(column.name), column.type) for column in schema], schema=schema)


def rows(table: pa.Table, schema: pa.Schema) -> Iterator[dict[str, Any]]:
    """The table row by row, as Python values. Only for as many rows as may be in memory at once."""
    lists = [values_of(column) for column in cast(table, schema).columns]
    names = schema.names
    return (dict(zip(names, values, strict=True)) for values in zip(*lists, strict=True))


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    return column if column.type == kind else column.cast(kind)


def values_of(column: pa.ChunkedArray) -> list[Any]:
    """The column as Python values, with U+FFFD for bytes of text that are not UTF-8."""
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:  # neither Parquet nor Arrow make sure that text is UTF-8
        return [_mended(value) for value in column.cast(_as_bytes(column.type)).to_pylist()]


def _as_bytes(kind: pa.DataType) -> pa.DataType:
    """The type with bytes in the place of text."""
    if pt.is_struct(kind):
        return pa.struct([(inner.name, _as_bytes(inner.type)) for inner in kind])
    if pt.is_map(kind):
        return pa.map_(_as_bytes(kind.key_type), _as_bytes(kind.item_type))
    if pt.is_list(kind):
        return pa.list_(_as_bytes(kind.value_type))
    return pa.binary() if pt.is_string(kind) else kind


def _mended(value: Any) -> Any:  # noqa: ANN401 - whatever a cell holds
    """The value with U+FFFD for bytes that are not UTF-8."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, dict):
        return {name: _mended(inner) for name, inner in value.items()}
    return [_mended(inner) for inner in value] if isinstance(value, list) else value


def require_unique(names: list[str], noun: str) -> None:
    """Two columns of one name cannot both be told apart and carried."""
    twice = sorted(name for name, times in Counter(names).items() if times > 1)
    if twice:
        raise InputError(
            Problem(
                "LM1021",
                f"the table has more than one {noun} named {', '.join(map(repr, twice))}",
                help="rename all but one",
            )
        )
