"""Events: what a pool of workers reports to the driver."""

from dataclasses import dataclass

from actors.errors import LightmillError
from actors.models.model import ModelInfo
from actors.records import Beat, Shard, ShardReport


@dataclass(frozen=True, slots=True)
class Placed:
    """The worker has its place on a machine, and begins to load its model."""

    worker: str
    node: str
    address: str


@dataclass(frozen=True, slots=True)
class Leaving:
    """A machine will be taken away, in so many seconds if anybody knows."""

    node: str
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker has loaded its model."""

    worker: str
    info: ModelInfo


@dataclass(frozen=True, slots=True)
class Beaten:
    """The worker announced what is on its device."""

    worker: str
    shard: Shard
    beat: Beat


@dataclass(frozen=True, slots=True)
class Made:
    """The worker finished a shard; nothing is committed yet."""

    worker: str
    report: ShardReport


@dataclass(frozen=True, slots=True)
class Broke:
    """The worker raised; it lives. `shard` is None where it was its model that could not be loaded."""

    worker: str
    shard: Shard | None
    error: LightmillError


@dataclass(frozen=True, slots=True)
class Died:
    """The worker's process is gone, with all that it had in hand."""

    worker: str
    reason: str


Event = Placed | Leaving | Ready | Beaten | Made | Broke | Died
