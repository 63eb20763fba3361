"""What ``score --plot`` draws: each column of a series with its reconstruction, and the score below them.

Shapes: B rows per block, V values per row, C columns that may be drawn.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tiedae_cli.data.item_set import Block, ItemForm
from tiedae_cli.model.metrics import squares
from tiedae_cli.output import figures
from tiedae_cli.output.series_envelope import EnvelopeBuilder, RowNumbers

KEPT_COLUMNS = 128  # columns that may be drawn; their ranges are kept


class SeriesPicture:
    """Collects rows with their reconstructions and scores in bounded memory, and draws them.

    If there are more columns than a picture holds, those with the largest reconstruction errors are drawn.

    Args:
        form: form of a row; of images only the scores are drawn.
    """

    def __init__(self, form: ItemForm) -> None:
        self.form, self.kept = form, min(KEPT_COLUMNS, form.values_per_item) if form.kind == "vectors" else 0
        self.originals, self.rebuilt = EnvelopeBuilder(self.kept), EnvelopeBuilder(self.kept)
        self.errors = torch.zeros(self.kept, dtype=torch.float64)  # squared, as the model sees them
        self.numbers, self.rows = RowNumbers(), 0

    def add(self, block: Block, reconstructions: Tensor, scores: Tensor) -> None:
        """Add rows.

        Args:
            block: as the model sees them.
            reconstructions: (B, V), as the model sees them.
            scores: (B,)
        """
        if not len(scores):
            return
        made, rows = reconstructions.double().numpy(), self.numbers.of(block.items)
        self.rows += len(rows)
        self.errors += squares(reconstructions[:, : self.kept] - torch.as_tensor(block.values[:, : self.kept])).sum(0)
        for builder, values in ((self.originals, block.values.astype(np.float64)), (self.rebuilt, made)):
            builder.add(self.form.restored(values)[:, : self.kept], scores.numpy(), rows, block.times)

    def png(self, limit: float | None, outliers: int, score_name: str) -> bytes | None:
        """Draw the rows; None if there are none.

        Args:
            limit: the threshold.
            outliers: how many rows are above it.
            score_name: name of the score.
        """
        if not self.rows:
            return None
        columns = self._chosen()
        names = self._names()
        series, rebuilt = self.originals.envelope(), self.rebuilt.envelope()
        title = self._title(series, None if limit is None else outliers, len(columns), len(names))
        return figures.series_plot(
            series.only(columns), rebuilt.only(columns), [names[place] for place in columns], limit, title, score_name
        )

    def _chosen(self) -> list[int]:
        """Return the columns to draw, in the order of the table."""
        order = self.errors.argsort(descending=True, stable=True)[: figures.MOST_COLUMNS]
        return sorted(order.tolist())

    def _names(self) -> Sequence[str]:
        columns = self.form.columns
        return columns.values if columns is not None else [f"column {place}" for place in range(self.form.values_per_item)]

    def _title(self, series: figures.Envelope, outliers: int | None, drawn: int, columns: int) -> str:
        title = f"{self.rows:,} {'rows' if self.kept else 'items'}"
        if series.times is not None:
            title += f", {series.time(0)} to {series.time(len(series.top) - 1)}"
        if outliers is not None:
            title += f", {outliers:,} above the threshold (colored)"
        if series.width > 1:
            title += f"; {series.width:,} a point: lowest to highest value, highest score"
        if 0 < drawn < columns:
            title += f"; the {drawn} of {columns:,} columns with the largest errors"
        return title
