"""The report of trained runs: hands the page what their scores say of its items."""

from collections.abc import Sequence

from torch import Tensor

from tiedae_cli.data.item_set import ItemSet
from tiedae_cli.report.report import Verdict, report
from tiedae_cli.runs.trained_run import OpenRun
from tiedae_cli.scoring.rankers import RANKERS, Region, SquaredError
from tiedae_cli.scoring.regions import region_side
from tiedae_cli.scoring.scorer import Scorer


def report_page(runs: Sequence[OpenRun], names: Sequence[str], split: str, quantile: float) -> bytes:
    """Return the page; arguments and errors as of ``report``."""

    def judge(run: OpenRun, held_out: ItemSet, items: ItemSet, squared_errors: Tensor) -> Verdict:
        return _verdict(run, held_out, items, squared_errors, 1 - quantile)

    return report(runs, names, split, quantile, judge)


def _verdict(run: OpenRun, held_out: ItemSet, items: ItemSet, squared_errors: Tensor, rate: float) -> Verdict:
    """Return how a run judges items whose squared errors are known, by a threshold for a false-alarm rate."""
    rank = RANKERS[run.config.score.rank]
    region = region_side(run.form) if rank is Region else None
    if rank not in (SquaredError, Region) or not len(held_out):  # the page computes the score of what is drawn on it
        return Verdict(None, region, None)
    scorer = Scorer(run)
    threshold = scorer.item_threshold(held_out, rate).value
    scores = squared_errors if rank is SquaredError else scorer.item_scores(items)
    return Verdict(threshold, region, int((scores > threshold).sum()))
