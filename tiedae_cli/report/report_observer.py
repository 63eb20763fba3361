"""The observer that writes the report page after a training, if ``output.report`` is true."""

import logging
from collections.abc import Callable

from tiedae_cli.runs.observer import Observer, TrainingResult
from tiedae_cli.runs.trained_run import OpenRun

log = logging.getLogger(__name__)


class ReportPage(Observer):
    """Writes ``report.html`` to the run folder.

    Args:
        page: returns the page of a run, given the run, its name and the split to show.
    """

    def __init__(self, page: Callable[[OpenRun, str, str], bytes]) -> None:
        self.page = page

    def finished(self, result: TrainingResult) -> None:
        """Write the page.

        Raises:
            StorageError: the page cannot be written.
        """
        start = result.start
        run = start.run
        opened = OpenRun(run.best, start.device, start.splits)
        run.write(run.report, self.page(opened, str(run.folder), start.shown_split))
        log.info(f"report: {run.report}")
