"""The next steps after a training: one command per line, or lines of Python for a caller in Python."""

from pathlib import Path

from tiedae_cli.runs.run_folder import named_model
from tiedae_cli.runs.run_list import RUNS
from tiedae_cli.system.portability import quoted


def next_steps(folder: Path, images: bool, in_shell: bool) -> str:
    """Return the lines to type after a training.

    Args:
        folder: the run folder.
        images: whether the items are images.
        in_shell: whether the reader is in a shell rather than in Python.
    """
    if in_shell:
        run = quoted(short_name(folder))
        lines = [f"tiedae {command} {run}" for command in ("eval", "reconstruct" if images else "score", "report")]
    else:
        lines = ["model = run.model", "model.evaluate()", "model.score(X)"]
    return "\n".join(f"{'next:' if number == 0 else '':<5} {line}" for number, line in enumerate(lines))


def short_name(folder: Path) -> str:
    """Return the run's name if a command finds it by that name, else its path."""
    return folder.name if folder.parent == RUNS and named_model(folder.name, RUNS) == folder else str(folder)
