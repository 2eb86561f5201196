"""`make bench`: what every goal but those of a GPU is measured by, and then the table of all goals.

`python -m benchmarks [NAME [ARGUMENT ...]]` runs one of them, also of those that are not part of it, which
`docs/performance.md` lists. Each writes `benchmarks/results/<name>.json`. One that fails is told of at the end, and the
others go on.
"""

import subprocess
import sys
import time
from collections.abc import Sequence

from benchmarks import goals, plots

BENCHMARKS = {
    "encoders": ("png", "1024"),
    "data_path": ("webp", "1024"),
    "parquet_sink": ("png",),
    "control_plane": ("2",),
    "paced_job": (),
    "null_job": (),
    "demo_job": (),
}
"""With what a goal asks of each: some measure more without arguments."""
LONGEST_SECONDS = 3600
"""More than any of them takes, on a slow machine too: one that hangs ends, and the others go on."""


def run(name: str, arguments: Sequence[str]) -> bool:
    """Whether it came to its end. A process of its own: what one leaves in memory is no matter to the next."""
    print(f"\n== {name}", flush=True)
    began = time.monotonic()
    try:
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *arguments], check=True, timeout=LONGEST_SECONDS)
    except subprocess.SubprocessError as error:
        print(f"   {error}", flush=True)
        return False
    finally:
        print(f"   {time.monotonic() - began:.0f} s", flush=True)
    return True


def main() -> int:
    """Run, and say what is reached."""
    name, *arguments = sys.argv[1:] or [""]
    if name:
        return 0 if run(name, arguments) else 1
    failed = [each for each, words in BENCHMARKS.items() if not run(each, words)]
    plots.main()
    print("\n== goals", flush=True)
    goals.main(["docs"])
    if failed:
        print(f"\nfailed: {', '.join(failed)}; their figures above are those of an earlier run, if there was one")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
