"""The command line within the process of a test: what a shell would see of it."""

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from cluster.cli.app import main


@dataclass(frozen=True)
class Said:
    """How a command ended, and what it said."""

    status: int
    out: str
    err: str

    @property
    def json(self):
        """The one object that `--json` promises."""
        assert self.out.count("\n") == 1, self.out
        return json.loads(self.out)

    @property
    def codes(self):
        """Of the problems, in their order."""
        heads = [line.partition("]")[0] for line in self.err.splitlines() if "[LM" in line]
        return [head.partition("[")[2] for head in heads]


def lightmill(*words: str | Path) -> Said:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main([str(word) for word in words])
        except SystemExit as ended:
            status = ended.code
    return Said(status, out.getvalue(), err.getvalue())


def plan(prompts: str | Path, *words: str | Path, output: str | Path | None = None) -> Said:
    """`lightmill plan` over a table, for the model that needs nothing."""
    folder = Path(prompts).parent
    return lightmill("plan", "--prompts", prompts, "--output", output or folder / "out", "--model", "fake", *words)
