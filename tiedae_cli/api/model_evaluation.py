"""How well a model reconstructs items beside PCA and the mean, and how well its scores find outliers.

Shapes: N items, B items per block, D values per item.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
import torch

from tiedae_cli.data.item_set import Block, ItemForm
from tiedae_cli.data.sources.memory import label_texts
from tiedae_cli.errors import DataError, InputError
from tiedae_cli.model.autoencoder import TiedAutoencoder
from tiedae_cli.model.error_tail import describe_tail
from tiedae_cli.model.inference import Evaluation, evaluate
from tiedae_cli.model.item_batches import ItemBatches
from tiedae_cli.model.metrics import ErrorSum, metric_values, metrics_of
from tiedae_cli.model.pca import PrincipalComponents
from tiedae_cli.scoring.labels import Labelled


class SeenItems:
    """Items in memory as a model sees them.

    Args:
        form: of an item.
        blocks: at least one item.
    """

    def __init__(self, form: ItemForm, blocks: Sequence[Block]) -> None:
        if not blocks:
            raise DataError("X: empty; expected at least one item")
        self.form = form
        self.values = np.concatenate([block.values for block in blocks])

    def __len__(self) -> int:
        return len(self.values)

    def batch(self, start: int, stop: int) -> np.ndarray:
        """Return items start to stop, (B, D) float32."""
        return self.values[start:stop]


@dataclass(frozen=True)
class ModelEvaluation:
    """Errors of the model, PCA and the mean over some items.

    ``evaluation["model"]["mse_per_value"]`` is one error; ``rows`` names the rows, ``to_dict()`` returns all of them.
    """

    values: dict[str, dict[str, float | None]]
    """By row and metric: ``model``, ``pca``, ``mean``; ``pca_clipped`` for images; ``raw model`` ... in the units of raw features."""
    items: int
    components: int
    """Of PCA."""
    images: bool
    error_share_of_worst_1_percent: float | None = None
    """Share of the model's squared error that the 1% of the items with the largest errors carry; None for fewer than 100."""
    detection: dict[str, Any] = field(default_factory=dict)
    """AUROC and other measures, if labels were given."""

    def __getitem__(self, row: str) -> dict[str, float | None]:
        return self.values[row]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        share = {"error_share_of_worst_1_percent": self.error_share_of_worst_1_percent}
        return {"items": self.items, "components": self.components, **self.values, **share, **self.detection}

    @property
    def frame(self) -> Any:
        """The errors as a pandas DataFrame, one row each.

        Raises:
            ImportError: pandas is not installed.
        """
        import pandas

        return pandas.DataFrame.from_dict(self.values, orient="index")

    def _table(self) -> list[list[str]]:
        metrics = list(self.values["model"])
        rows = [["", *(name.replace("_", " ") for name in metrics)]]
        for name, values in self.values.items():
            title = f"PCA, {self.components} components" if name == "pca" else name.replace("pca", "PCA")
            rows.append([title, *("-" if values.get(one) is None else f"{values[one]:.6g}" for one in metrics)])
        return rows

    def __repr__(self) -> str:
        rows = self._table()
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = [
            "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True)))
            for row in rows
        ]
        lines += [f"{name.replace('_', ' ')}: {_text(value)}" for name, value in self.detection.items()]
        lines += filter(None, [describe_tail(self.error_share_of_worst_1_percent)])
        return "\n".join([f"{self.items:,} items", *lines])

    def _repr_html_(self) -> str:
        head, *rows = self._table()
        cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
        body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        found = "".join(f"<li>{escape(name.replace('_', ' '))}: {_text(value)}</li>" for name, value in self.detection.items())
        return f"<p>{self.items:,} items</p><table><tr>{cells}</tr>{body}</table>" + (f"<ul>{found}</ul>" if found else "")


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def evaluate_items(
    model: TiedAutoencoder,
    components: PrincipalComponents,
    items: ItemBatches,
    name: str,
    device: torch.device,
    labels: Any = None,
    scores: np.ndarray | None = None,
    normal: Sequence[str] = (),
) -> ModelEvaluation:
    """Return the errors over some items.

    Args:
        model: on the device.
        components: PCA of the training items.
        items: which.
        name: of the items, for messages.
        device: where to compute.
        labels: (N,), of outliers and normal items.
        scores: (N,), if there are labels.
        normal: ``data.normal``; if it is empty, label 1 is an outlier among 0 and 1.

    Raises:
        DataError: an error is not finite.
        InputError: the labels do not fit the items.
    """
    found = evaluate(model, components, items, name, device)
    images = found.raw is None
    values = _rows(found, images) | ({} if found.raw is None else _rows(found.raw, images, "raw "))
    detection: dict[str, Any] = {}
    if labels is not None and scores is not None:
        texts = label_texts(labels)
        if len(texts) != len(scores):
            raise InputError(f"labels: {len(texts):,} labels for {len(scores):,} items")
        labelled = Labelled(normal)
        labelled.add(texts, torch.from_numpy(scores))
        problem = labelled.why_not()
        if problem is not None or not labelled.labels:
            raise InputError(f"labels: {problem or 'no item has a label'}")
        detection = labelled.values(None)
    return ModelEvaluation(values, found.model.items, found.components, images, found.tail, detection)


def _rows(found: Evaluation, images: bool, prefix: str = "") -> dict[str, dict[str, float | None]]:
    clipped = {} if found.pca_clipped is None else {"pca_clipped": found.pca_clipped}
    rows: dict[str, ErrorSum] = {"model": found.model, "pca": found.pca, **clipped, "mean": found.mean_item}
    return {
        f"{prefix}{name}": {
            metric.name: metric_values(errors, found.mean_item, images)[metric.name]
            for metric in metrics_of(errors, images)
            if not prefix or metric.in_raw_units
        }
        for name, errors in rows.items()
    }
