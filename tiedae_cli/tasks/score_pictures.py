"""What is drawn of a screening: the worst images beside what the model makes of them, or a series with its scores under it."""

import logging
from pathlib import Path

import numpy as np
import torch

from tiedae_cli.data.windows import row_form
from tiedae_cli.errors import InputError
from tiedae_cli.output import figures
from tiedae_cli.output.series_envelope import Places, Trace
from tiedae_cli.output.terminal import write_output
from tiedae_cli.runs.trained_run import OpenRun
from tiedae_cli.scoring.item_scores import Scored, Tally
from tiedae_cli.system.text import shown

log = logging.getLogger(__name__)

SHEET, LARGEST_SHEET = 24, 100  # items on a contact sheet: without --top, and at most
CAPTION = 24  # characters of an item's name under its picture


class Pictures:
    """The pictures of one screening.

    Args:
        run: the model.
        sheet: where the worst images go; None: nowhere.
        plot: where the scores go, row by row, with the rows' values.

    Raises:
        InputError: the worst images are asked for, and the model's items are none.
    """

    def __init__(self, run: OpenRun, sheet: Path | None = None, plot: Path | None = None) -> None:
        self.run, self.sheet, self.plot = run, sheet, plot
        self.form = row_form(run.form)
        self.columns = (
            min(figures.MOST_COLUMNS, self.form.values_per_item) if run.form.kind == "vectors" else 0
        )  # images: scores alone
        if sheet is not None and run.form.kind != "images":
            raise InputError(
                f"--contact-sheet: this model takes {run.form.describe()}, which are no pictures; --plot draws rows with their scores"
            )
        self.trace, self.places = None if plot is None else Trace(self.columns), Places()

    @property
    def items(self) -> int:
        """How many of the worst items are to be kept for them."""
        return 0 if self.sheet is None else SHEET

    def add(self, scored: Scored) -> None:
        """Take a block into account."""
        if self.trace is not None and len(scored.scores):
            values = self.form.denormalize(scored.block.values.astype(np.float64))
            self.trace.add(values[:, : self.columns], scored.scores.numpy(), self.places.of(scored.block.items))

    @property
    def any(self) -> bool:
        """Whether something is drawn."""
        return self.sheet is not None or self.plot is not None

    def draw(self, tally: Tally, limit: float | None, top: int | None) -> None:
        """Draw what is asked for.

        Args:
            tally: of all items.
            limit: the threshold.
            top: how many images.

        Raises:
            StorageError: a file cannot be written.
        """
        if self.sheet is not None and tally.worst.scored is not None:
            self._draw_sheet(self.sheet, tally, tally.worst.scored, limit, top)
        if self.plot is not None and self.trace is not None and self.trace.rows:
            self._draw_series(self.plot, self.trace, tally, limit)

    @torch.inference_mode()
    def _draw_sheet(self, path: Path, tally: Tally, kept: Scored, limit: float | None, top: int | None) -> None:
        worst = kept.only(range(min(len(kept.scores), top or SHEET, LARGEST_SHEET)))
        count, values, errors = len(worst.scores), worst.block.values, worst.scores.tolist()
        reconstructions = self.run.network(torch.as_tensor(values, device=self.run.device)).cpu().numpy()
        captions = [f"{error:.2f}\n{_short(shown(str(item)))}" for item, error in zip(worst.block.items, errors, strict=True)]
        outliers = [limit is not None and error > limit for error in errors]
        which = "largest squared errors" if worst.ranked is None else "highest scores"
        title = f"the {count} {which} of {tally.items:,} items\noriginal, reconstruction, error"
        title += "" if limit is None else f"; coloured: above {limit:.4g}"
        write_output(str(path), figures.contact_sheet(values, reconstructions, captions, outliers, title, self.form))
        log.info(f"the {count} worst: {path}")

    def _draw_series(self, path: Path, trace: Trace, tally: Tally, limit: float | None) -> None:
        columns = self.form.columns
        names = columns.values if columns is not None else [f"column {number}" for number in range(self.form.values_per_item)]
        title = f"{tally.items:,} {'rows' if self.columns else 'items'}"
        if limit is not None:
            title += f", {tally.outliers:,} above the threshold (coloured)"
        if trace.width > 1:
            title += f"; {trace.width:,} a point: lowest to highest value, highest score"
        if len(names) > self.columns > 0:
            title += f"; the first {self.columns} of {len(names):,} columns"
        name = "score" if self.run.ranking is not None else "squared error"
        write_output(str(path), figures.series_plot(trace.envelope(), names[: self.columns], limit, title, name))
        log.info(f"the series and its scores: {path}")


def _short(name: str) -> str:
    """Return the end of a name, which tells files of one folder apart."""
    return name if len(name) <= CAPTION else "\u2026" + name[1 - CAPTION :]
