"""Licences: what the weights and their pictures may be used for. Those that cards name are in `licenses.yaml`."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field

from actors.settings import Settings

Text = Annotated[str, Field(min_length=1)]
_FILE = Path(__file__).with_name("licenses.yaml")


class License(Settings):
    """What the weights and their pictures may be used for. In a card: an identifier of `licenses.yaml`, or this."""

    id: Text
    """SPDX's, where there is one; else the hub's."""
    name: Text
    link: Annotated[str, Field(pattern=r"^https?://")]
    commercial: Literal["allowed", "conditional", "forbidden"]
    share_alike: bool
    """Whether models derived from it have to stay under the same terms."""
    use_restrictions: bool
    """Whether it lists uses that are forbidden."""
    conditions: str = ""
    """What else whoever uses it has to know, in a sentence."""


@functools.cache
def licenses() -> Mapping[str, Mapping[str, Any]]:
    """The licences that a card may name, as maps of `License`'s fields."""
    known = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
    return {name: {"id": name, **fields} for name, fields in known.items()}
