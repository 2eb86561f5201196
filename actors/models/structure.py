"""Structure of a single file: what names and shapes of its tensors tell, read without a number or running code."""

import json
import pickle
import re
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.errors import InputError, Problem

Shapes = Mapping[str, tuple[int, ...]]

_FIRST = "model.diffusion_model.input_blocks.0.0.weight"
_CONTEXT = re.compile(r"model\.diffusion_model\.input_blocks\.\d+\.1\.transformer_blocks\.0\.attn2\.to_k\.weight")
_MOST_NESTED = 8
"""One `state_dict` in another."""
_MOST_HEADER = 100_000_000
"""Bytes, as safetensors itself has it."""


@dataclass(frozen=True, slots=True)
class Structure:
    """What tells the architectures apart whose checkpoints have this layout."""

    in_channels: int
    """Of the UNet: 4, and more where it takes a picture as well."""
    context: int
    """Width of the text that it attends to: 768 in Stable Diffusion 1, 1024 in 2, 2048 in XL."""
    velocity: bool
    """The file itself says that it predicts velocity; what says nothing may predict either."""


def read_structure(path: Path) -> Structure:
    """Raises `InputError` (LM1221) for what is no checkpoint of this layout, LM1204 for a pickle with more than tensors
    in it."""
    shapes = _safetensors_shapes(path) if path.suffix == ".safetensors" else _pickle_shapes(path)
    first = shapes.get(_FIRST)
    context = next((shape for name, shape in shapes.items() if _CONTEXT.fullmatch(name)), None)
    if not first or not context:
        raise InputError(
            Problem(
                "LM1221",
                f"{path.name} is not a whole Stable Diffusion checkpoint: it has no {_FIRST}",
                where=str(path),
                help="use a checkpoint with UNet, text encoder and VAE, or a folder that diffusers saved",
            )
        )
    return Structure(in_channels=first[1], context=context[1], velocity="v_pred" in shapes)


class _Forbidden(Exception):
    """The pickle asks for something that no tensor is made of."""


def _safetensors_shapes(path: Path) -> Shapes:
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > _MOST_HEADER:
                raise ValueError(f"a header of {length} bytes")
            header = json.loads(file.read(length))
        return {name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}
    except (OSError, struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(_unreadable(path, "safetensors", error)) from error


def _pickle_shapes(path: Path) -> Shapes:
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            with archive.open(name) as file:
                loaded = _Shapes(file).load()
    except _Forbidden as error:
        raise InputError(_forbidden(path, error)) from error
    except Exception as error:  # a damaged pickle raises whatever it happens to hit
        raise InputError(_unreadable(path, "a checkpoint of torch", error)) from error
    for _ in range(_MOST_NESTED):
        if not (isinstance(loaded, Mapping) and "state_dict" in loaded):
            break
        loaded = loaded["state_dict"]
    else:  # its own: diffusers would look into it for ever
        raise InputError(_unreadable(path, "a checkpoint of torch", ValueError("state_dict in state_dict without end")))
    tensors = loaded.items() if isinstance(loaded, Mapping) else ()
    return {str(name): shape for name, shape in tensors if isinstance(shape, tuple)}


def _shape_of(_storage: Any, _offset: int, shape: tuple[int, ...], *_rest: Any) -> tuple[int, ...]:  # noqa: ANN401
    return tuple(shape)


def _parameter(tensor: tuple[int, ...], *_rest: Any) -> tuple[int, ...]:  # noqa: ANN401
    return tensor


class _Shapes(pickle.Unpickler):
    """Knows the few things that tensors are made of, gives a shape for each, and refuses to look up anything else."""

    _KNOWN: Mapping[tuple[str, str], Any] = {
        ("collections", "OrderedDict"): OrderedDict,
        ("torch", "Size"): tuple,
        ("torch._utils", "_rebuild_tensor_v2"): _shape_of,
        ("torch._utils", "_rebuild_parameter"): _parameter,
    }

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401
        if (module, name) in self._KNOWN:
            return self._KNOWN[module, name]
        if module == "torch" and (name.endswith("Storage") or name in ("float16", "float32", "bfloat16", "int64")):
            return name
        raise _Forbidden(f"{module}.{name}")

    def persistent_load(self, _where: Any) -> None:  # noqa: ANN401
        """The numbers, which stay where they are."""


def _forbidden(path: Path, error: _Forbidden) -> Problem:
    return Problem(
        "LM1204",
        f"{path.name} holds more than tensors, and is not loaded",
        where=str(path),
        value=str(error)[:200],
        help="get it as safetensors",
    )


def _unreadable(path: Path, kind: str, error: Exception) -> Problem:
    return Problem(
        "LM1221",
        f"{path.name} cannot be read as {kind}",
        where=str(path),
        value=f"{type(error).__name__}: {error}"[:200],
        help="download it again",
    )
