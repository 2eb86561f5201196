"""No model at all, 1024 pixels as PNG: what is left of a job is encoding and writing, which both cores do.

`python -m benchmarks.null_job`. Ray Data as its example has it and as well as it can be done, and a writer like
img2dataset's. All but the example's `save` encode with lightmill's encoder; a second example does so as well.
"""

from benchmarks.baselines.task import Task
from benchmarks.contest import contest, program, ratio, summary, whole_job
from benchmarks.timing import print_table, write_results

ROUNDS = 5
IMAGES, OF_EXAMPLE = 600, 16
OURS = "lightmill run"


def task(images: int) -> Task:
    """Photograph-like pictures."""
    return Task(model="fake:natural=1", images=images, width=1024, height=1024, batch=8)


def main() -> None:
    """Measure, print, write."""
    found = contest(
        {
            "Ray Data, done well": program("ray_tuned", task(IMAGES)),
            OURS: whole_job(task(IMAGES), shard_size=100),
            "process pool + tar": program("process_pool", task(IMAGES)),
            "Ray Data, its example": program("ray_example", task(OF_EXAMPLE)),
        },
        ROUNDS,
    )
    rows = summary(found, OURS)
    print_table(rows)
    figures = {
        "whole job / Ray Data, its example": ratio(found, OURS, "Ray Data, its example"),
        "whole job / Ray Data done well": ratio(found, OURS, "Ray Data, done well"),
        "whole job / process pool": ratio(found, OURS, "process pool + tar"),
    }
    write_results("null_job", rows, figures)


if __name__ == "__main__":
    main()
