"""accelerate's recipe for several devices: the prompts are split between processes, each of which saves its own.

`accelerate launch -m benchmarks.baselines.split TASK`. The split is fixed: who is done first waits for the others.
"""

from accelerate import PartialState

from benchmarks.baselines.loops import saved
from benchmarks.baselines.painters import painter
from benchmarks.baselines.task import Task, note_ready, report


def main() -> None:
    """Split, make, save."""
    task = Task.of_command_line()
    state = PartialState(cpu=task.device == "cpu")
    mine = painter(task)
    state.wait_for_everyone()
    note_ready(task.where)
    with state.split_between_processes(task.rows()) as rows:
        folder = task.output / str(state.process_index)
        folder.mkdir()
        saved(mine, rows, task.batch, folder)
    state.wait_for_everyone()
    if state.is_main_process:
        report(task, task.images)
    state.destroy_process_group()


if __name__ == "__main__":
    main()
