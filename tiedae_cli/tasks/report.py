"""What ``report`` does: one page about runs, with their scores, and where it goes.

Shapes: N items of the split.
"""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from tiedae_cli.data.item_set import ItemSet
from tiedae_cli.report.report import ScoreFacts, report
from tiedae_cli.runs.run_folder import Run
from tiedae_cli.runs.trained_run import OpenRun
from tiedae_cli.scoring.rankers import RANKERS, Region, SquaredError
from tiedae_cli.scoring.regions import region_side
from tiedae_cli.scoring.scorer import Scorer
from tiedae_cli.system.storage import unused_name


def report_page(runs: Sequence[OpenRun], names: Sequence[str], split: str, quantile: float) -> bytes:
    """Return the page about runs, with what the score of each says of the items.

    Args:
        runs: their items are those of the first one's data.
        names: what the command line calls them.
        split: train, validation or test.
        quantile: of the validation scores; items above it are outliers.

    Raises:
        InputError: no split has that name, or there are too many runs.
        DataError: the runs take data of different forms, or the data is missing.
    """

    def judge(run: OpenRun, images: ItemSet, errors: Tensor) -> ScoreFacts:
        return _score_facts(run, images, errors, quantile)

    return report(runs, names, split, quantile, judge)


def _score_facts(run: OpenRun, images: ItemSet, errors: Tensor, quantile: float) -> ScoreFacts:
    """Return the threshold of what a run ranks items by, the side of a region if that is regions, and how many items are above.

    Args:
        run: the model.
        images: the items of the page.
        errors: their squared errors, (N,).
        quantile: of the validation scores.
    """
    rank = RANKERS[run.config.score.rank]
    region = region_side(run.form) if rank is Region else None
    scorer = Scorer(run)
    threshold = scorer.item_threshold(1 - quantile)
    if rank not in (SquaredError, Region) or threshold is None:  # the page computes the score of what is drawn on it
        return ScoreFacts(None, region, None)
    limit = threshold.value
    scores = errors if rank is SquaredError else scorer.item_scores(images)
    return ScoreFacts(limit, region, int((scores > limit).sum()))


def report_path(runs: Sequence[OpenRun], content: bytes) -> Path:
    """Return where a report goes without ``--output``: into the run folder of a single run, else a free name in the working folder."""
    folder = Run(runs[0].path.parent)
    if len(runs) == 1 and folder.config.exists():
        return folder.report
    return unused_name(Path("report.html" if len(runs) == 1 else "comparison.html"), content)
