"""What most users write, as the program it is: `pipe(list)`, and `save` for each of the images.

`python -m benchmarks.baselines.script TASK`. Of its own also because an engine changes its process: malloc keeps what
is freed (`actors.models.freed_memory`), and a user's program does not have that.
"""

from benchmarks.baselines.loops import saved
from benchmarks.baselines.painters import painter
from benchmarks.baselines.task import Task, note_ready, report


def main() -> None:
    """Load, make, save."""
    task = Task.of_command_line()
    rows, pipe = task.rows(), painter(task)
    note_ready(task.where)
    saved(pipe, rows, task.batch, task.output)
    written = [path.stat().st_mtime for path in sorted(task.output.iterdir())]
    made = [written[start : start + task.batch] for start in range(0, len(written), task.batch)]
    report(task, len(written), [(batch[-1], len(batch)) for batch in made])


if __name__ == "__main__":
    main()
