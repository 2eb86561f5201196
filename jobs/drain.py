"""Drain: which machines of the cluster are about to be taken away, as Ray knows from a spot notice, an autoscaler, a
scheduler of containers or `ray drain-node`."""

import logging
import time

import ray._private.state
from ray.exceptions import RayError

_log = logging.getLogger(__name__)


def draining() -> dict[str, float | None]:
    """Seconds that each such machine has left, by the id of its node; None where nobody said. Deadlines are by the
    clock of whoever set them.

    Ray has no public way to ask (2.60); its own libraries ask like this. Where a later one cannot be asked, a machine
    goes without a warning, as one whose plug is pulled.
    """
    try:
        deadlines: dict[str, int] = ray._private.state.state.get_draining_nodes()
    except (AttributeError, RayError, RuntimeError) as error:
        _log.warning("nobody says which machines are taken away: %s", error)
        return {}
    now = time.time()
    return {node: deadline / 1000 - now if deadline else None for node, deadline in deadlines.items()}
