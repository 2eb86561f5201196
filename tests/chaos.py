"""`make chaos`: every fault many times over, on every store, and one table of what it came to.

    python -m tests.chaos [NAME...] [--seed 7]

`back after` is the median and the worst of the seconds from a blow until as many workers as before were at work.
Ends with status 1 if an image was lost or is there twice, or anything else is not as the checker wants it.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from random import Random
from statistics import median

sys.path.insert(0, str(Path(__file__).parent))

import conftest  # noqa: F401 - seals the environment, as for any other test
from calamities import CALAMITIES, Calamity, Place
from checker import Findings, examine
from servers.rclone import rclone_server
from servers.rgw import rgw_server
from servers.server import S3Server

WIDTHS = "{:<24} {:<12} {:>5} {:>6} {:>5} {:>6} {:>11} {:>15} {:>8}"
HEADER = ("fault", "store", "count", "images", "lost", "twice", "made again", "back after", "seconds")
CRASHES = "crash-points"
ABOUT_CRASHES = "A process ends at each crash point, at each of its first occurrences."
SERVERS = {"rgw": rgw_server, "rclone": rclone_server}


@contextmanager
def places() -> Iterator[Callable[[str], Place]]:
    """A store by its name; its server is started when it is asked for first."""
    with ExitStack() as servers:

        @cache
        def started(name: str) -> S3Server:
            return servers.enter_context(SERVERS[name]())

        def place(name: str) -> Place:
            kind, _, transport = name.partition(" ")
            if kind not in SERVERS:
                return Place(name)
            server = started(kind)
            return Place(name, server, server.tls_endpoint if transport == "tls" else server.endpoint)

        yield place


def perform(calamity: Calamity, place: Place, seed: str) -> bool:
    """One line of the table. Whether all was as it must be."""
    began = time.monotonic()
    count, again, back, findings = 0, 0, "", Findings(0, 0, [], [], [], {})
    with tempfile.TemporaryDirectory(prefix="lightmill-chaos-") as folder, place.empty() as output:
        try:
            job, count, seconds = calamity.drill(Path(folder) / "job", place, output, Random(seed))
            back = f"{median(seconds):.1f} / {max(seconds):.1f} s" if seconds else ""
            findings, again = examine(job, {}), job.made_again()
        except Exception:  # noqa: BLE001 - whatever went wrong in one drill, the others are to be seen too
            findings.faults.append(traceback.format_exc())
    lost, twice, took = len(findings.lost), len(findings.twice), f"{time.monotonic() - began:.0f}"
    print(WIDTHS.format(calamity.name, place.name, count, findings.images, lost, twice, again, back, took), flush=True)
    for fault in findings.faults:
        print(f"    {fault}", flush=True)
    return not (findings.lost or findings.twice or findings.faults)


def crash_points() -> bool:
    """Those tests count in full."""
    began = time.monotonic()
    tests = Path(__file__).with_name("unit") / "test_crashes.py"
    ended = subprocess.run([sys.executable, "-m", "pytest", "-q", tests], capture_output=True, text=True, check=False)
    passed = re.search(r"(\d+) passed", ended.stdout)
    took = f"{time.monotonic() - began:.0f}"
    print(WIDTHS.format(CRASHES, "folder", passed[1] if passed else 0, "", "", "", "", "", took), flush=True)
    if ended.returncode:
        print(ended.stdout, flush=True)
    return ended.returncode == 0


def main() -> int:
    about = {calamity.name: calamity.drill.__doc__ for calamity in CALAMITIES} | {CRASHES: ABOUT_CRASHES}
    listed = "\n".join(f"  {name:<24} {text}" for name, text in about.items())
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", epilog=listed, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="of faults, in full; left out: all of them")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(2)), help="of what happens when")
    chosen = parser.parse_args()
    if strange := set(chosen.names) - about.keys():
        parser.error(f"no fault is called {' or '.join(sorted(strange))}; --help has them all")
    names = chosen.names or about
    print(f"seed {chosen.seed}\n{WIDTHS.format(*HEADER)}", flush=True)
    with places() as place:
        fine = [
            perform(calamity, place(where), f"{chosen.seed} {calamity.name} {where} {number}")
            for calamity in CALAMITIES
            for number, where in enumerate(calamity.places)
            if calamity.name in names
        ]
    if CRASHES in names:
        fine.append(crash_points())
    print(f"{sum(fine)} of {len(fine)} as they must be", flush=True)
    return 0 if all(fine) else 1


if __name__ == "__main__":
    sys.exit(main())
