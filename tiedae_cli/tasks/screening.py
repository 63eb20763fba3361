"""One screening from its checkpoint to its contact sheet: opens the items, sets the threshold, scores, draws, and says what failed."""

import contextlib
import logging
import math
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from tiedae_cli.config import DataConfig
from tiedae_cli.data import ImageSet, Splits, load_splits
from tiedae_cli.data.loading import is_data_set
from tiedae_cli.data.streams import ItemReader, Items, split_rows
from tiedae_cli.data.windows import row_form
from tiedae_cli.errors import DataError, InputError
from tiedae_cli.output import figures
from tiedae_cli.output.terminal import write_output
from tiedae_cli.runs.opened import OpenRun
from tiedae_cli.system.text import shown
from tiedae_cli.tasks.scoring import (
    Failures,
    Scored,
    Tally,
    detection_values,
    error_quantile,
    score_blocks,
    score_rows,
    score_values,
)

log = logging.getLogger(__name__)

SHEET, LARGEST_SHEET = 24, 100  # pairs on a contact sheet: without --top, and at most
CAPTION = 24  # characters of an item's name under its picture


class Screening:
    """Scores items with one model.

    Args:
        run: the model.
    """

    def __init__(self, run: OpenRun) -> None:
        self.run = run
        self.device, self.form, self.network = run.device, row_form(run.form), run.network
        self.failures = Failures()
        self.reader = ItemReader(run.form, run.block_size, self.failures.add, data=run.config.data)
        self.limit: float | None = None
        self.tally = Tally(None)

    def open(self, names: Sequence[str], split: str, limit: float | None, quantile: float | None, default: float) -> Items:
        """Return the items of the inputs, or of a split where there are none, and set the threshold.

        Args:
            names: files, folders, ``-``.
            split: train, validation or test.
            limit: the threshold, if it is given.
            quantile: of the validation errors, if it is given; it is then an error that there are none.
            default: the quantile where neither is given.

        Raises:
            InputError: an input does not exist, or the threshold is no number.
            DataError: the data are needed and cannot be read, or do not fit the model.
        """
        for option, value in (("--quantile", quantile), ("--threshold", limit)):
            if value is not None and not math.isfinite(value):
                raise InputError(f"{option} {value}: must be a finite number")
        needed = not names or quantile is not None
        splits = None if limit is not None and not needed else self._splits(needed)
        self.limit = limit
        if limit is None and splits is not None:
            self._set_threshold(splits, default if quantile is None else quantile, needed=quantile is not None)
        if names:
            return self.reader.open_rows(names)
        assert splits is not None  # without inputs they are needed
        return self._rows(splits.filled(split))

    def _splits(self, needed: bool) -> Splits | None:
        try:
            return self.run.splits
        except DataError as problem:
            if needed:
                raise
            log.warning(f"no threshold, for the model's data cannot be read ({problem}); --threshold needs none")
            return None

    def _set_threshold(self, splits: Splits, quantile: float, needed: bool) -> None:
        if not len(splits.validation):
            if needed:
                raise InputError(f"--quantile: {splits.source} has no validation split here; give --threshold")
            log.warning(f"no threshold: {splits.source} has no validation split here; give --threshold")
            return
        errors = torch.cat([scored.squared_errors for scored in self._scored(self._rows(splits.validation))])
        self.limit = error_quantile(errors, quantile)
        above = int((errors > self.limit).sum())
        log.info(
            f"threshold: squared error {self.limit:.6g}, the {quantile:g} quantile of {len(errors):,} validation errors "
            f"({above:,} lie{'s' if above == 1 else ''} above it)"
        )
        if len(errors) * (1 - quantile) < 1 and quantile < 1:
            log.warning(
                f"{len(errors):,} validation errors are too few for a {quantile:g} quantile: the threshold is their largest"
            )

    def _rows(self, images: ImageSet) -> Items:
        return split_rows(images, self.reader.size, self.run.config.data.stride)

    def _scored(self, items: Items) -> Iterator[Scored]:
        """Score items; where the model's are windows, the rows that they are made of."""
        window, bad = self.run.form.window, self.failures.add
        if window == 1:
            return score_blocks(self.network, items.blocks, self.device, bad)
        return score_rows(self.network, items.blocks, self.device, bad, window, self.run.config.data.stride)

    def lines(self, items: Items, top: int | None, draws: bool) -> Iterator[dict[str, Any]]:
        """Score the items and yield what is written of each, in order, or of the ``top`` worst, worst first."""
        self.tally = Tally(self.limit, max(top or 0, SHEET if draws else 0))
        blocks = self.tally.watch(self._scored(items))
        for scored in blocks:
            if top is None:
                yield from score_values(scored.block.items, scored.squared_errors, self.form.pixels, self.limit)
        if top is not None:
            worst = self.tally.worst
            yield from score_values(worst.items[:top], worst.squared_errors[:top], self.form.pixels, self.limit)
        if not self.tally.items:
            self.failures.finish(scored=0)  # here, so that no empty file takes the place of an older one

    def detection(self, items: Items, name: str, draws: bool) -> Iterator[dict[str, Any]]:
        """Score the items and known intruders, and yield one object: how well the error tells them apart.

        Raises:
            InputError: there is no file, folder or data set of that name, or there are no items of one kind.
        """
        intruders = self._intruders(name)
        self.tally = Tally(self.limit, SHEET if draws else 0, all_errors=True)
        others = Tally(self.limit, all_errors=True)
        for tally, stream in ((self.tally, items), (others, intruders)):
            for _ in tally.watch(self._scored(stream)):
                pass
        yield detection_values(self.tally, others, name)

    def _intruders(self, name: str) -> Items:
        if not is_data_set(name):
            return self.reader.open_rows([name])
        data = DataConfig(dataset=name, root=self.run.config.data.root)
        return self._rows(load_splits(data, False).for_model(self.run.form, str(self.run.path)).filled("test"))

    def check_can_draw(self) -> None:
        """Raise ``InputError`` unless the model's items are pictures."""
        self.run.refuse_vectors(f"--contact-sheet: this model takes {self.form.describe()}, which are no pictures")

    @contextlib.contextmanager
    def drawing(self, lines: Iterator[dict[str, Any]], path: Path | None, top: int | None) -> Iterator[None]:
        """Draw the worst items after this block has written the lines, also where the reader of stdout leaves before their end."""
        gone = None
        try:
            yield
        except BrokenPipeError as error:
            gone = error
        if path is not None:
            deque(lines, maxlen=0)  # the picture needs all items
            self.draw(path, top)
        if gone is not None:
            raise gone

    @torch.inference_mode()
    def draw(self, path: Path, top: int | None) -> None:
        """Draw the worst items beside their reconstructions.

        Raises:
            StorageError: the file cannot be written.
        """
        worst = self.tally.worst
        count = min(len(worst.items), top or SHEET, LARGEST_SHEET)
        if not count:
            return
        values, errors = worst.values[:count], worst.squared_errors[:count].tolist()
        reconstructions = self.network(values.to(self.device)).cpu()
        captions = [f"{error:.2f}\n{_short(shown(str(item)))}" for item, error in zip(worst.items, errors, strict=False)]
        outliers = [self.limit is not None and error > self.limit for error in errors]
        title = f"the {count} largest squared errors of {self.tally.items:,} items\noriginal beside reconstruction"
        title += "" if self.limit is None else f"; coloured: above {self.limit:.4g}"
        png = figures.contact_sheet(values, reconstructions, captions, outliers, title, self.form)
        write_output(str(path), png)
        log.info(f"the {count} worst: {path}")

    def finish(self) -> None:
        """Say how many outliers there were.

        Raises:
            TiedaeError: something could not be scored; all else is done.
        """
        if self.limit is not None and self.tally.items:
            log.info(f"{self.tally.outliers:,} of {self.tally.items:,} items are above the threshold")
        self.failures.finish(self.tally.items)


def _short(name: str) -> str:
    """Return the end of a name, which tells files of one folder apart."""
    return name if len(name) <= CAPTION else "\u2026" + name[1 - CAPTION :]
