"""Cross-validation: a config trained on several folds with several seeds, beside PCA, in one process.

Shapes: N items.
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Unpack

import numpy as np

from tiedae_cli.api.config_keys import ConfigKeys
from tiedae_cli.api.python_training import Training, training_request
from tiedae_cli.config import Config
from tiedae_cli.data.item_set import permutation
from tiedae_cli.data.sources.memory import collected, row_count
from tiedae_cli.errors import InputError

ROWS = ("model", "pca", "mean")


@dataclass(frozen=True)
class CrossValidation:
    """The errors of each training on its held-out fold."""

    trainings: list[dict[str, Any]]
    """One dict per fold and seed: ``fold``, ``seed``, and the metrics of ``model``, ``pca`` and ``mean``."""

    @property
    def table(self) -> dict[str, dict[str, tuple[float, float]]]:
        """Mean and standard error over all trainings, by row (``model``, ``pca``, ``mean``) and metric."""
        metrics = list(self.trainings[0]["model"])
        return {row: {metric: self._spread(row, metric) for metric in metrics} for row in ROWS}

    def _spread(self, row: str, metric: str) -> tuple[float, float]:
        values = np.array([training[row][metric] for training in self.trainings], np.float64)
        error = float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan
        return float(values.mean()), error

    @property
    def frame(self) -> Any:
        """The table as a pandas DataFrame: a row for each of ``ROWS``, two columns per metric.

        Raises:
            ImportError: pandas is not installed.
        """
        import pandas

        rows = {
            row: {key: value for name, pair in cells.items() for key, value in zip((name, f"{name}_se"), pair, strict=True)}
            for row, cells in self.table.items()
        }
        return pandas.DataFrame.from_dict(rows, orient="index")

    def _lines(self) -> list[list[str]]:
        head = ["", *(name.replace("_", " ") for name in self.trainings[0]["model"])]
        rows = [
            [row.replace("pca", "PCA"), *(f"{mean:.5g} ± {error:.2g}" for mean, error in cells.values())]
            for row, cells in self.table.items()
        ]
        return [head, *rows]

    def __repr__(self) -> str:
        lines = self._lines()
        widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
        texts = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
        return "\n".join([f"{len(self.trainings)} trainings, mean ± standard error on the held-out folds", *texts])

    def _repr_html_(self) -> str:
        rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>" for line in self._lines())
        return f"<p>{len(self.trainings)} trainings, mean ± standard error on the held-out folds</p><table>{rows}</table>"


def cross_validate(
    X: Any,
    config: str | os.PathLike[str] | Mapping[str, Any] | Config | None = None,
    *,
    folds: int = 5,
    seeds: Sequence[int] | None = None,
    device: str = "auto",
    **settings: Unpack[ConfigKeys],
) -> CrossValidation:
    """Train on all folds but one, measure on that one, for each fold and seed.

    Each fold is held out once; the folds are a random choice that depends on N alone. Nothing is left on disk.

    Args:
        X: N items, as of ``train``.
        config: as of ``train``.
        folds: from 2 to N.
        seeds: of the weights and the order of the items; default: the config's.
        device: as of ``train``.
        **settings: keys of the config, as of ``train``.

    Returns:
        The errors of model, PCA and mean with their standard errors.

    Raises:
        InputError: there are fewer items than folds.
        ConfigError: a key or a value is wrong.
        DataError: as in ``train``.
    """
    X = np.asarray(X) if isinstance(X, list) and not hasattr(X[0], "getbands") else collected(X)
    count = row_count(X)
    if not 2 <= folds <= count:
        raise InputError(f"folds: {folds}: expected from 2 to {count:,}, the number of items")
    order, trainings = permutation(0, count), list[dict[str, Any]]()
    for fold, held in enumerate(np.array_split(order, folds)):
        kept = np.sort(np.setdiff1d(order, held))
        training_items, held_items = _items(X, kept), _items(X, np.sort(held))
        for seed in [None] if seeds is None else seeds:
            keys = {"test": 0, **settings} | ({} if seed is None else {"seed": seed})
            request = training_request(training_items, config, test=keys.pop("test"), settings=keys)
            with Training(request, device=device, quiet=True) as training:
                training.train()
                run = training.run()
            found = run.model.evaluate(held_items)
            trainings.append({"fold": fold, "seed": run.config.training.seed, **{row: found[row] for row in ROWS}})
    return CrossValidation(trainings)


def _items(data: Any, chosen: np.ndarray) -> Any:
    """Return some items of data in memory, as the same kind of data."""
    if isinstance(data, (list, tuple)):
        return [data[item] for item in chosen]
    if hasattr(data, "iloc"):
        return data.iloc[chosen]
    if hasattr(data, "take") and hasattr(data, "column_names"):  # of pyarrow
        return data.take(chosen)
    return data.tocsr()[chosen] if hasattr(data, "tocsr") else data[chosen]
