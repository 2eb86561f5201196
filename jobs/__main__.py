"""The driver's entry point, on this machine and on a cluster alike: `python -m jobs @FILE` with the order in a file, or
`python -m jobs -` with the order on standard input, which then is the leash."""

import os
import secrets
import signal
import sys

from jobs.leash import Leash
from jobs.order import ON_LEASH, PreflightOrder, ReproduceOrder, read_order

PRIVATE_RAY = {
    # Ray's own switch for "this is no cluster": it then names and binds the loopback address only.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def main() -> int:
    """Do what the order says; the exit status says how it went."""
    order = read_order(sys.argv[1])
    leash = Leash(held=sys.argv[1] == ON_LEASH)
    signal.signal(signal.SIGTERM, leash.terminate)
    if isinstance(order, ReproduceOrder):
        from jobs.reproduce import reproduce

        return reproduce(order, leash)
    if isinstance(order, PreflightOrder):
        from jobs.preflight import preflight

        return preflight(order, leash)
    if order.address is None:
        # Before Ray is imported, which is when it reads them. The token lives and dies with this process.
        os.environ.update(PRIVATE_RAY, RAY_AUTH_TOKEN=secrets.token_hex(32))
    from jobs.run import run

    return run(order, leash)


if __name__ == "__main__":
    sys.exit(main())
