"""No model at all, 1024 pixels as PNG: what is left of a job is encoding and writing, which both cores do.

`python -m benchmarks.null_job [all]`. Ray Data as its example has it and as well as it can be done; with `all`, a
writer like img2dataset's as well. All but the example's `save` encode with lightmill's encoder.
"""

import sys

from benchmarks.baselines.task import Task
from benchmarks.contest import contest, program, ratio, summary, whole_job
from benchmarks.timing import print_table, write_results

ROUNDS = 5
IMAGES, OF_EXAMPLE = 640, 3
"""Four seconds of those that are as fast as each other, one of the one that is far behind."""
OURS = "lightmill run"


def task(images: int) -> Task:
    """Photograph-like pictures."""
    return Task(model="fake:natural=1", images=images, width=1024, height=1024, batch=8)


def main() -> None:
    """Measure, print, write."""
    contenders = {
        "Ray Data, done well": program("ray_tuned", task(IMAGES)),
        OURS: whole_job(task(IMAGES), shard_size=100),
        "Ray Data, its example": program("ray_example", task(OF_EXAMPLE)),
    }
    if "all" in sys.argv[1:]:
        contenders["process pool + tar"] = program("process_pool", task(IMAGES))
    found = contest(contenders, ROUNDS)
    rows = summary(found, OURS)
    print_table(rows)
    figures = {
        "whole job / Ray Data, its example": ratio(found, OURS, "Ray Data, its example"),
        "whole job / Ray Data done well": ratio(found, OURS, "Ray Data, done well"),
    }
    write_results("null_job", rows, figures)


if __name__ == "__main__":
    main()
