"""What a user would write instead, as well as a good user would: the same images by other means.

Each is a program of its own where it needs processes (`python -m benchmarks.baselines.NAME TASK`), and a function where
it is a loop. What is compared with what: `docs/performance.md`.
"""
