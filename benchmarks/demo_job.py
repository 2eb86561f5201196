"""A real model on one core: `lightmill run` with what a user would write instead, of the same images.

`python -m benchmarks.demo_job [long] [all]`. The model is `demo`, in float32 on one thread, with its card's own steps;
the second core is everybody's to use, as processor cores beside a GPU are. The pure loop runs in this process, where
the weights are; the others are whole programs. Beside Ray Data, where the start-up decides, 1,000 images have one step,
so that five rounds fit into `make bench`; `long` gives them the card's as well. With `all`, more of what a user could
write, and accelerate on both cores.
"""

import sys
from pathlib import Path

from actors.models import registry
from benchmarks.baselines.loops import hand_tuned, thrown_away
from benchmarks.baselines.painters import Engine, Pipe
from benchmarks.baselines.task import Task
from benchmarks.contest import Contender, Rounds, contest, looped, program, ratio, summary, whole_job
from benchmarks.timing import print_table, write_results

FOLDER = Path(registry.__file__).with_name("demo")
ROUNDS = 5
STEPS, STEPS_OF_MANY = 20, 1
MANY, IMAGES, LOOPED, ALONE = 1000, 80, 40, 16
"""Of the programs whose start counts; of the job and the script, whose does not; of loops in this process, which have
none; and of the script that makes them one by one."""
OURS = "lightmill run"


def task(images: int, *, steps: int, batch: int = 8) -> Task:
    """So many of the demo's pictures."""
    size = {"width": 64, "height": 64, "guidance": 3.0}
    return Task(model="demo", folder=str(FOLDER), images=images, steps=steps, batch=batch, **size)  # type: ignore[arg-type] # of a mixed dict


def beside_loops() -> dict[str, Contender]:
    """Those of the goals whose start does not count."""
    loops = task(LOOPED, steps=STEPS)
    return {
        "pure loop": looped(thrown_away, Engine(loops), loops),
        OURS: whole_job(task(IMAGES, steps=STEPS), shard_size=40),
        "pipe(list) + save": program("script", task(IMAGES, steps=STEPS)),
    }


def beside_programs(steps: int) -> dict[str, Contender]:
    """Those of the goals that start from nothing."""
    many = task(MANY, steps=steps)
    return {
        OURS: whole_job(many, shard_size=200),
        "Ray Data, done well": program("ray_tuned", many),
    }


def others() -> dict[str, Contender]:
    """What else a user could write."""
    loops = task(LOOPED, steps=STEPS)
    pipe = Pipe(loops)
    return {
        "pure loop of pipe(...)": looped(thrown_away, pipe, loops),
        "hand-tuned, in line": looped(hand_tuned, pipe, loops),
        "batch of 1 + save": program("script", task(ALONE, steps=STEPS, batch=1)),
    }


def on_two_cores(steps: int) -> Rounds:
    """Two workers, and accelerate with two processes."""
    launcher = (str(Path(sys.executable).with_name("accelerate")), "launch", "--cpu", "--num_processes", "2", "-m")
    return contest(
        {
            "lightmill run, 2 workers": whole_job(task(MANY, steps=steps), shard_size=100, workers=2),
            "accelerate, 2 processes": program("split", task(MANY, steps=steps), launcher),
        },
        ROUNDS,
    )


def main() -> None:
    """Measure, print, write."""
    words = sys.argv[1:]
    of_many = STEPS if "long" in words else STEPS_OF_MANY
    loops = contest(beside_loops() | (others() if "all" in words else {}), ROUNDS)
    programs = contest(beside_programs(of_many), ROUNDS)
    rows = [{"steps": STEPS, **row} for row in summary(loops, OURS)]
    rows += [{"steps": of_many, **row} for row in summary(programs, OURS)]
    if "all" in words:
        rows += [{"steps": of_many, **row} for row in summary(on_two_cores(of_many), "lightmill run, 2 workers")]
    figures = {
        "whole job / pure loop": ratio(loops, OURS, "pure loop"),
        "whole job / pipe + save": ratio(loops, OURS, "pipe(list) + save"),
        "whole job with start-up / Ray Data done well": ratio(programs, OURS, "Ray Data, done well", "overall"),
    }
    print_table(rows)
    write_results("demo_job", rows, figures)


if __name__ == "__main__":
    main()
