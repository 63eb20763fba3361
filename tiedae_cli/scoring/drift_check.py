"""Whether items are unlike the training data, found while they stream to whoever measures or writes them."""

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import tee

from tiedae_cli.data.item_set import Block
from tiedae_cli.data.windows import row_form
from tiedae_cli.runs.trained_run import OpenRun
from tiedae_cli.scoring.drift import Drift, DriftWatch
from tiedae_cli.scoring.false_alarms import FALSE_ALARMS
from tiedae_cli.scoring.scorer import Scorer
from tiedae_cli.scoring.tally import Tally


class DriftCheck:
    """Compares items with those that a model was trained on.

    Args:
        run: the model; its training must have ended.
    """

    def __init__(self, run: OpenRun) -> None:
        assert run.trained.finished is not None
        self.scorer = Scorer(run)
        self.threshold = self.scorer.threshold(FALSE_ALARMS)
        self.watch = DriftWatch(run.trained.finished.reference, row_form(run.form), run.form.window)
        self.tally = Tally(None if self.threshold is None else self.threshold.value)

    def read(self, rows: Iterable[Block]) -> None:
        """Take all items into account; of a model of windows, the rows that they are made of."""
        deque(self._scored(rows), maxlen=0)

    def beside(self, rows: Iterable[Block]) -> Iterator[Block]:
        """Yield all items unchanged, as ``read`` takes them, and take each into account; the stream is read once."""
        given, own = tee(rows)
        taken = 0

        def counted() -> Iterator[Block]:
            nonlocal taken
            for block in own:
                taken += 1
                yield block

        scored = self._scored(counted())
        for number, block in enumerate(given, start=1):
            yield block
            while taken < number:  # in step, so that no more than a block is kept for the slower reader
                next(scored)
        deque(scored, maxlen=0)

    def _scored(self, rows: Iterable[Block]) -> Iterator[object]:
        return self.tally.watch(self.scorer.score(self.watch.watch(rows)))

    def found(self) -> Drift | None:
        """Return how the items differ from the training data; None if they do not."""
        return self.watch.found(self.tally.outliers, self.tally.items, self.threshold)


def drift_check(run: OpenRun) -> DriftCheck | None:
    """Return the check of a model; None if its checkpoint does not know the training data."""
    return None if run.trained.finished is None else DriftCheck(run)
