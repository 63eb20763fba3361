"""The ``report`` command: a page about runs with their scores, and its output path.

Shapes: N items of the split.
"""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from tiedae_cli.data.item_set import ItemSet
from tiedae_cli.report.report_document import ScoreFacts, report
from tiedae_cli.runs.run_folder import Run
from tiedae_cli.runs.trained_run import OpenRun
from tiedae_cli.scoring.rankers import RANKERS, Region, SquaredError
from tiedae_cli.scoring.regions import region_side
from tiedae_cli.scoring.scorer import Scorer
from tiedae_cli.system.storage import unused_name


def report_page(runs: Sequence[OpenRun], names: Sequence[str], split: str, quantile: float) -> bytes:
    """Return the report page about runs, with the outliers that each one's score finds.

    Args:
        runs: the runs; all are measured on the first one's data.
        names: their names on the page.
        split: train, validation or test.
        quantile: quantile of the validation scores; items above it are outliers.

    Raises:
        InputError: the split is unknown, or there are too many runs.
        DataError: the runs need different forms of data, or the data is missing.
    """

    def judge(run: OpenRun, items: ItemSet, errors: Tensor) -> ScoreFacts:
        return _score_facts(run, items, errors, quantile)

    return report(runs, names, split, quantile, judge)


def _score_facts(run: OpenRun, items: ItemSet, errors: Tensor, quantile: float) -> ScoreFacts:
    """Return a run's threshold, the side of its region if it ranks by regions, and the number of outliers.

    Args:
        run: the model.
        items: the items of the split.
        errors: their squared errors, (N,).
        quantile: quantile of the validation scores that is the threshold.
    """
    rank = RANKERS[run.config.score.rank]
    region = region_side(run.form) if rank is Region else None
    scorer = Scorer(run)
    threshold = scorer.item_threshold(1 - quantile)
    by_row = scorer.threshold(1 - quantile) if run.form.window > 1 else None
    rows = None if by_row is None else by_row.value
    if rank not in (SquaredError, Region) or threshold is None:  # the page itself must compute the score of a drawing
        return ScoreFacts(None, region, None, rows)
    limit = threshold.value
    scores = errors if rank is SquaredError else scorer.item_scores(items)
    return ScoreFacts(limit, region, int((scores > limit).sum()), rows)


def report_path(runs: Sequence[OpenRun], content: bytes) -> Path:
    """Return the default output path: in the run folder for a single run, else an unused name in the working folder."""
    folder = Run(runs[0].path.parent)
    if len(runs) == 1 and folder.config.exists():
        return folder.report
    return unused_name(Path("report.html" if len(runs) == 1 else "comparison.html"), content)
