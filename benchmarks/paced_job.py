"""A model of four steps on a large GPU, as far as everything behind it can tell: 48 ms an image of 1024 pixels, asleep.

`python -m benchmarks.paced_job [all]`. `lightmill run` with the same loop that saves by Pillow in line; and how much of
the time the model had to wait until encoders or the store had room. With `all`, a loop tuned by hand as well.
"""

import sys

from benchmarks.baselines.loops import hand_tuned, saved
from benchmarks.baselines.painters import Null
from benchmarks.baselines.task import Task
from benchmarks.contest import contest, looped, ratio, summary, waiting_share, whole_job
from benchmarks.timing import print_table, write_results

PACE = 0.048
ROUNDS = 5
IMAGES, SAVED, TUNED = 80, 8, 40
LONG = 600
"""Of the job whose waits are looked at: most of them are at its end, whatever its length."""
SHARD = 40
OURS = "lightmill run"


def task(images: int) -> Task:
    """Photograph-like pictures, at that pace."""
    return Task(model=f"fake:natural=1,pace={PACE}", images=images, width=1024, height=1024, batch=8)


def main() -> None:
    """Measure, print, write."""
    null = Null(task(8))
    contenders = {"loop + save": looped(saved, null, task(SAVED)), OURS: whole_job(task(IMAGES), shard_size=SHARD)}
    if "all" in sys.argv[1:]:
        contenders["hand-tuned, in line"] = looped(hand_tuned, null, task(TUNED))
    found = contest(contenders, ROUNDS)
    rows = summary(found, OURS)
    print_table(rows)
    ((long,),) = contest({f"{OURS}, {LONG} images": whole_job(task(LONG), shard_size=SHARD)}, 1).values()
    waiting = waiting_share(long)
    figures = {
        "whole job / loop + save": ratio(found, OURS, "loop + save"),
        "producer waiting": waiting,
        "whole job, share of the pace": long.rate * PACE,
    }
    print_table([{"of the producer's time": "waiting", "share": f"{100 * waiting:.3f} %"}])
    write_results("paced_job", [*rows, {"seconds": dict(long.seconds)}], figures)


if __name__ == "__main__":
    main()
