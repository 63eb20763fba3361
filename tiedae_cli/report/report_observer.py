"""The report page that a training writes at its end, with ``output.report: true``."""

import logging
from collections.abc import Callable

from tiedae_cli.runs.observer import Observer, TrainingResult
from tiedae_cli.runs.trained_run import OpenRun

log = logging.getLogger(__name__)


class ReportPage(Observer):
    """Write ``report.html`` in the run folder.

    Args:
        page: returns the page of a run, given the run, its name and the split to show.
    """

    def __init__(self, page: Callable[[OpenRun, str, str], bytes]) -> None:
        self.page = page

    def finished(self, result: TrainingResult) -> None:
        """Write the page.

        Raises:
            StorageError: it cannot be written.
        """
        start = result.start
        run = start.run
        opened = OpenRun(run.best, start.device, start.splits)
        run.write(run.report, self.page(opened, str(run.folder), start.shown_split))
        log.info(f"report: {run.report}")
