"""The report page that a training writes at its end, with ``output.report: true``."""

import logging

from tiedae_cli.report.report import report
from tiedae_cli.runs.observer import Observer, TrainingResult
from tiedae_cli.runs.trained_run import OpenRun

log = logging.getLogger(__name__)


class ReportPage(Observer):
    """Writes ``report.html`` in the run folder, unless that has been renamed or removed meanwhile.

    Args:
        quantile: of the validation errors: the threshold of outliers.
    """

    def __init__(self, quantile: float) -> None:
        self.quantile = quantile

    def finished(self, result: TrainingResult) -> None:
        """Write the page.

        Raises:
            StorageError: it cannot be written.
        """
        start = result.start
        run = start.run
        if run.moved():
            return
        opened = OpenRun(run.best, start.device, start.splits)
        run.write(run.report, report([opened], [str(run.folder)], start.shown_split, self.quantile))
        log.info(f"report: {run.report}")
