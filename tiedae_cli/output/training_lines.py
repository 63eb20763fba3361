"""A training's output on stdout for pipelines: a JSON line per epoch, or the checkpoint's path at the end."""

from tiedae_cli.output.terminal import Terminal
from tiedae_cli.runs.observer import Observer, TrainingResult
from tiedae_cli.runs.training_state import EpochReport
from tiedae_cli.runs.training_summary import finished_epochs


class TrainingLines(Observer):
    """Prints JSON Lines with ``--json``, else the path of the best checkpoint.

    List it last among the observers: a reader may act as soon as the path appears.

    Args:
        terminal: prints to stdout.
    """

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal

    def epoch(self, report: EpochReport) -> None:
        """Print the epoch."""
        self.terminal.json_line(**report.values())

    def finished(self, result: TrainingResult) -> None:
        """Print the result."""
        run = result.start.run
        self.terminal.result(str(run.best))
        self.terminal.json_line(
            event="done",
            run=str(run.folder),
            checkpoint=str(run.best),
            epochs=finished_epochs(result.history),
            best=result.best.values(),
        )
