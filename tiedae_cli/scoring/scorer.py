"""The score of any item: one computation and one threshold for the shell, Python and the report.

A model of windows has two scores: the row score (see ``row_scores.py``), by which ``score`` judges, and the window score, by which a window
as a whole is judged. Of all other models both are the item's score.
Shapes: N items, B items per block, D values per item.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property

import torch
from torch import Tensor

from tiedae_cli.data.item_reader import Items, split_items, split_rows
from tiedae_cli.data.item_set import Block, ItemSet
from tiedae_cli.data.sources.part import Bad, stop
from tiedae_cli.errors import CheckpointError
from tiedae_cli.model.metrics import squares
from tiedae_cli.runs.trained_run import OpenRun
from tiedae_cli.scoring.rankers import RANKERS, Ranker, SquaredError, fit_ranker, open_ranker
from tiedae_cli.scoring.reasons import Explained, evidence
from tiedae_cli.scoring.row_scores import score_rows
from tiedae_cli.scoring.scored import Scored, without_infinite
from tiedae_cli.scoring.threshold import Threshold, score_names, threshold_of


class Scorer:
    """Scores items with one model.

    Args:
        run: the model.

    Raises:
        CheckpointError: what the checkpoint keeps for ``score.rank`` is damaged.
    """

    def __init__(self, run: OpenRun) -> None:
        self.run, self.device = run, run.device
        self.window, self.stride = run.form.window, run.config.data.stride
        if run.trained.finished is not None:
            _ = self.ranker  # a damaged one is refused at once

    @cached_property
    def ranker(self) -> Ranker:
        """What items are ranked by, on the device.

        Raises:
            CheckpointError: its tensors are damaged.
            DataError: they are not in the checkpoint, because its training was killed, and the data cannot be read.
        """
        run, finished = self.run, self.run.trained.finished
        kept: Mapping[str, Tensor] = {} if finished is None else finished.score
        if finished is None and RANKERS[run.config.score.rank].kept:
            kept = fit_ranker(run.network, run.split("train"), run.config, run.device).tensors()
        try:
            return open_ranker({name: value.to(run.device) for name, value in kept.items()}, run.form, run.config)
        except ValueError as problem:
            raise CheckpointError(f"{run.path}: damaged: {problem}") from None

    @property
    def score_name(self) -> str:
        """What the score that ``score`` judges by is called."""
        return score_names(self.run.trained)[0]

    @torch.inference_mode()
    def scores(self, x: Tensor) -> Tensor:
        """Return the score of each item as the model sees it, of a window the window score: (B, D) -> (B,) float64 on the CPU."""
        x = x.to(self.device)
        return self.ranker.scores(x, self.run.network(x)).cpu()

    def score(
        self, blocks: Iterable[Block], bad: Bad = stop, explain: int | None = None, *, reconstructs: bool = False
    ) -> Iterator[Scored]:
        """Yield each block with what ``score`` judges its items by.

        Args:
            blocks: items; for a model of windows, the rows that they are made of, which then have row scores.
            bad: is called for each item that cannot be scored; if it returns, the item is skipped.
            explain: how many of the values that carry an item's error are kept.
            reconstructs: whether the reconstructions are kept.
        """
        if self.window == 1:
            return self.score_items(blocks, bad, explain, reconstructs=reconstructs)
        kept = self._explained(explain), reconstructs
        return score_rows(self.run.network, blocks, self.device, bad, self.window, self.stride, *kept)

    def _explained(self, count: int | None) -> Explained | None:
        """Return how reasons are looked for, ``count`` of each item; None if that is None."""
        if count is None:
            return None
        finished, window = self.run.trained.finished, self.window
        known = None if finished is None else (finished.reference.low.repeat(window), finished.reference.high.repeat(window))
        return Explained(self.run.form, count, known)

    @torch.inference_mode()
    def score_items(
        self, blocks: Iterable[Block], bad: Bad = stop, explain: int | None = None, *, reconstructs: bool = False
    ) -> Iterator[Scored]:
        """Yield each block with its items' scores, those of windows with window scores; arguments as of ``score``."""
        by_error, explained = isinstance(self.ranker, SquaredError), self._explained(explain)
        for block in blocks:
            x = torch.as_tensor(block.values, device=self.device)
            made = self.run.network(x)
            ranked = None if by_error else self.ranker.scores(x, made).cpu()
            errors = squares(made - x).sum(1).cpu()
            why = None if explained is None else evidence(torch.as_tensor(block.values), made.cpu(), explained)
            yield without_infinite(Scored(block, errors, ranked, why, made.cpu() if reconstructs else None), bad)

    def rows(self, items: ItemSet) -> Items:
        """Return the items of a set as ``score`` takes them."""
        return split_rows(items, self.run.block_size, self.stride)

    def item_scores(self, items: ItemSet) -> Tensor:
        """Return the score of each item of a set, of a window the window score, (N,) float64."""
        return all_scores(self.score_items(split_items(items, self.run.block_size).blocks))

    def threshold(self, rate: float) -> Threshold | None:
        """Return the threshold of what ``score`` judges by, for a false-alarm rate from 0 to 1; of windows that of row scores.

        None if the checkpoint keeps no calibration: its training was killed, or had no validation items.
        """
        finished = self.run.trained.finished
        return None if finished is None or finished.calibration is None else threshold_of(finished.calibration, rate)

    def item_threshold(self, rate: float) -> Threshold | None:
        """Return the threshold of items' scores, as ``threshold`` does; of windows that of window scores."""
        finished = self.run.trained.finished
        windows = None if finished is None else finished.window_calibration
        return self.threshold(rate) if windows is None else threshold_of(windows, rate)


def all_scores(scored: Iterable[Scored]) -> Tensor:
    """Return the scores of a stream, (N,) float64."""
    return torch.cat([torch.zeros(0, dtype=torch.float64), *(block.scores for block in scored)])
