"""`make bench`: every benchmark but `true_size`, one after the other. Each writes `benchmarks/results/<name>.json`."""

import runpy
import sys

BENCHMARKS = ("encoders", "data_path", "parquet_sink", "tiny_loop", "control_plane", "bookkeeping", "hand_out", "ramp")

if __name__ == "__main__":
    for name in sys.argv[1:] or BENCHMARKS:
        print(f"\n== {name}", flush=True)
        sys.argv = [name]
        runpy.run_module(f"benchmarks.{name}", run_name="__main__")
