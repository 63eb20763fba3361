"""What the end of a training adds to its best epoch, measured: PCA, calibration, ranker, reference statistics and results.

Shapes: B items per block, V values of an item, or of a row if the items are windows of rows.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from tiedae_cli.data.item_set import ItemSet
from tiedae_cli.errors import DataError
from tiedae_cli.model.inference import error_sum
from tiedae_cli.runs.calibration import Calibration, calibrate
from tiedae_cli.runs.finished_parts import End, FinishedParts, Results
from tiedae_cli.runs.observer import TrainingResult
from tiedae_cli.runs.reference import QUANTILES, Reference
from tiedae_cli.runs.trained_run import OpenRun
from tiedae_cli.runs.training_summary import error_history
from tiedae_cli.scoring.scorer import Scorer, all_scores

MOST_DRAWN = 10_000  # items that the quantiles are taken from
DRAWN_VALUES = 1 << 25  # values of all drawn items at most (128 MiB), but
LEAST_DRAWN = 1000


def finished_parts(result: TrainingResult, end: End) -> FinishedParts:
    """Return what the best checkpoint of a training lacks.

    Args:
        result: the training; its best epoch is in ``best.safetensors``.
        end: how it ended.
    """
    start = result.start
    run = OpenRun(start.run.best, start.device, start.splits)
    run.trained = replace(run.trained, finished=None)  # of an earlier end of this training
    scorer = Scorer(run)
    calibration, window_calibration = _calibrations(scorer, start.splits.validation)
    return FinishedParts(
        pca=result.components,
        calibration=calibration,
        window_calibration=window_calibration,
        score=scorer.ranker.tensors(),
        reference=reference_of(scorer, start.splits.train),
        results=_results(result, end),
    )


def with_weights(run: OpenRun, weights: Mapping[str, Tensor]) -> OpenRun:
    """Return a run with other weights, whose ranker, calibration and error are measured again.

    All are missing, as in a training that was killed, if the data of the training cannot be read.
    """
    changed, finished = run.with_weights(weights), run.trained.finished
    if finished is None:
        return changed
    try:
        validation = changed.splits.validation
        scorer = Scorer(changed)
        calibration, windows = _calibrations(scorer, validation)
        score = scorer.ranker.tensors()
        measured = validation if len(validation) else changed.splits.train
        error = error_sum(changed.network, measured, changed.device).mse_per_value
    except DataError:
        return changed
    results = replace(finished.results, mse_per_value=error)
    parts = replace(finished, calibration=calibration, window_calibration=windows, score=score, results=results)
    changed.trained = replace(changed.trained, finished=parts)
    return changed


def _calibrations(scorer: Scorer, held_out: ItemSet) -> tuple[Calibration | None, Calibration | None]:
    """Return the calibration of what ``score`` judges by, and that of whole windows; None if there are no items."""
    if not len(held_out):
        return None, None
    found = _calibrated(all_scores(scorer.score(scorer.rows(held_out).blocks, _skip)))
    return found, _calibrated(scorer.item_scores(held_out)) if scorer.window > 1 else None


def _skip(problem: DataError) -> None:
    """Leave an item without a finite score out of the calibration."""


def _calibrated(scores: Tensor) -> Calibration | None:
    return calibrate(scores) if len(scores) else None


def _results(result: TrainingResult, end: End) -> Results:
    pca, clipped, mean = (result.measured[name] for name in ("pca", "pca_clipped", "mean"))
    assert pca is not None and mean is not None
    done = len(error_history(result.history))
    planned, best = result.start.config.training.epochs, result.best
    seconds = sum(report.seconds for report in result.history)
    return Results(end, done, planned, best.epoch, best.selection_mse, pca, clipped, mean, seconds)


def reference_of(scorer: Scorer, items: ItemSet) -> Reference:
    """Return the statistics of training items, value by value; of windows those of their rows."""
    width = items.form.shape[2] if scorer.window > 1 else items.form.values_per_item
    count, total = 0, np.zeros(width)
    low, high = np.full(width, np.inf, np.float32), np.full(width, -np.inf, np.float32)
    for values in _row_values(scorer, items):
        count, total = count + len(values), total + values.sum(0, dtype=np.float64)
        low, high = np.minimum(low, values.min(0)), np.maximum(high, values.max(0))
    mean, squares = total / count, np.zeros(width)
    drawn = _Drawn(count, width) if items.form.kind == "vectors" else None
    for values in _row_values(scorer, items):
        squares += np.square(values.astype(np.float64) - mean).sum(0)
        if drawn is not None:
            drawn.add(values)
    quantiles = np.zeros((0, width), np.float32) if drawn is None else drawn.quantiles()
    found = (mean, np.sqrt(squares / count), low, high, quantiles)
    return Reference(count, *(torch.from_numpy(np.ascontiguousarray(value)) for value in found))


def _row_values(scorer: Scorer, items: ItemSet) -> Iterator[np.ndarray]:
    return (block.values for block in scorer.rows(items).blocks if len(block.values))


class _Drawn:
    """Items drawn evenly from a stream of known length.

    Args:
        count: items of the stream.
        width: V.
    """

    def __init__(self, count: int, width: int) -> None:
        most = min(count, MOST_DRAWN, max(LEAST_DRAWN, DRAWN_VALUES // width))
        self.places = np.arange(most) * count // most  # (most,) ascending, from 0
        self.seen = 0
        self.kept: list[np.ndarray] = []

    def add(self, values: np.ndarray) -> None:
        """Take the drawn ones of a block, (B, V)."""
        first, last = np.searchsorted(self.places, (self.seen, self.seen + len(values)))
        self.kept.append(values[self.places[first:last] - self.seen])
        self.seen += len(values)

    def quantiles(self) -> np.ndarray:
        """Return order statistics in equal steps, (Q, V) float32."""
        ordered = np.sort(np.concatenate(self.kept), axis=0)
        return ordered[np.arange(QUANTILES) * (len(ordered) - 1) // (QUANTILES - 1)]
