"""One screening from its checkpoint to its last line: opens the items, sets the threshold, scores, and says what failed."""

import contextlib
import logging
import math
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from tiedae_cli.config import DataConfig
from tiedae_cli.data import ItemSet, Splits, load_splits
from tiedae_cli.data.item_reader import ItemReader, Items, split_rows
from tiedae_cli.data.load_data import is_data_set
from tiedae_cli.data.records import Records
from tiedae_cli.data.windows import row_form
from tiedae_cli.errors import DataError, InputError
from tiedae_cli.model.threshold import CONFIDENCE, Threshold, least_items, threshold_of
from tiedae_cli.runs.trained_run import OpenRun
from tiedae_cli.scoring.item_scores import Failures, Scored, Tally, detection_values, score_blocks, score_rows, score_values
from tiedae_cli.scoring.labels import described
from tiedae_cli.tasks.score_pictures import Pictures

log = logging.getLogger(__name__)


class Screening:
    """Scores items with one model.

    Args:
        run: the model.
        explain: how many of the values that carry an outlier's error are written.
        pictures: what is drawn of the items.
    """

    def __init__(self, run: OpenRun, explain: int | None = None, pictures: Pictures | None = None) -> None:
        self.explain = explain
        self.pictures = pictures or Pictures(run)
        self.run = run
        self.device, self.form, self.network = run.device, row_form(run.form), run.network
        self.failures = Failures()
        self.reader = ItemReader(run.form, run.block_size, self.failures.add, data=run.config.data)
        self.limit: float | None = None
        self.judged: Threshold | None = None
        self.tally = Tally(None)

    def open(self, names: Sequence[str], split: str, limit: float | None, rate: float | None, default: float) -> Items:
        """Return the items of the inputs, or of a split where there are none, and set the threshold.

        Args:
            names: files, folders, ``-``.
            split: train, validation or test.
            limit: the threshold, if it is given.
            rate: the false-alarm rate that the threshold is set for, if it is given; it is then an error that it cannot be.
            default: the rate where neither is given.

        Raises:
            InputError: an input does not exist, the threshold is no number, or there are too few validation items for the rate.
            DataError: the data are needed and cannot be read, or do not fit the model.
        """
        for option, value in (("--false-alarms", rate), ("--threshold", limit)):
            if value is not None and not math.isfinite(value):
                raise InputError(f"{option} {value}: must be a finite number")
        needed = not names or rate is not None
        splits = None if limit is not None and not needed else self._splits(needed)
        self.limit = limit
        if limit is None and splits is not None:
            self._set_threshold(splits, default if rate is None else rate, asked=rate is not None)
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

    def _set_threshold(self, splits: Splits, rate: float, asked: bool) -> None:
        if not len(splits.validation):
            if asked:
                raise InputError(f"--false-alarms: {splits.source} has no validation split here; give --threshold")
            log.warning(f"no threshold: {splits.source} has no validation split here; give --threshold")
            return
        scores = torch.cat([scored.scores for scored in self._scored(self._rows(splits.validation))])
        least = least_items(rate) if rate else 0  # 0 asks for the largest score
        if len(scores) < least:
            have = f"{len(scores):,} validation items are" if len(scores) > 1 else "1 validation item is"
            problem = f"{have} too few for a false-alarm rate of {rate:g}, which needs {least:,}"
            smallest = f"{math.ceil(1e4 / (len(scores) + 1)) / 1e4:g}"
            if asked:
                enough = len(splits.train) + len(splits.validation) > least
                more = f", or train with --set data.validation={least}" if enough else "; less takes more data"
                raise InputError(f"{problem}: --false-alarms {smallest}{more}")
            log.warning(f"{problem}: the threshold is their highest score")
        found = self.judged = threshold_of(scores, rate)
        self.limit = found.value
        name = "squared error" if self.run.ranking is None else "score"
        promise = f"expected false alarms {found.expected:.3g}"
        if self.run.form.window == 1:
            promise += f" ({CONFIDENCE:.0%} interval {found.low:.2g} to {found.high:.2g})"
        else:
            promise += ", if rows to come are like them"  # rows of a series are not independent: no interval
        log.info(f"threshold: {name} {found.value:.6g} by {found.items:,} validation items; {promise}")

    def _rows(self, images: ItemSet) -> Items:
        return split_rows(images, self.reader.size, self.run.config.data.stride)

    def _scored(self, items: Items, explain: int | None = None) -> Iterator[Scored]:
        """Score items; where the model's are windows, the rows that they are made of."""
        window, bad = self.run.form.window, self.failures.add
        why = None if explain is None else (self.run.form, explain)
        if window == 1:
            return score_blocks(self.network, items.blocks, self.device, bad, self.run.ranking, why)
        return score_rows(self.network, items.blocks, self.device, bad, window, self.run.config.data.stride, why)

    def lines(self, items: Items, top: int | None, summary: bool = False) -> Iterator[Records]:
        """Score the items and yield what is written of each, in order, or of the ``top`` worst, worst first; or one object about all."""
        data = self.run.config.data
        judges = summary or data.label is not None or bool(data.normal)
        self.tally = Tally(self.limit, max(top or 0, self.pictures.items), normal=data.normal if judges else None)
        for scored in self.tally.watch(self._scored(items, self.explain)):
            self.pictures.add(scored)
            if self.tally.items:
                self.failures.tell()
            if top is None and not summary:
                yield self._written(scored)
        worst = self.tally.worst.scored
        if top is not None and worst is not None and not summary:
            yield self._written(worst.only(range(min(top, len(worst.scores)))))
        if not self.tally.items:
            self.failures.finish(scored=0)  # here, so that no empty file takes the place of an older one
        elif summary:
            yield Records.one(self.summary())

    def _written(self, scored: Scored) -> Records:
        return score_values(scored, self.form, self.limit, labels=self.tally.labelled is not None)

    def summary(self) -> dict[str, Any]:
        """Return what is to say about all items, as the JSON interface names it."""
        tally = self.tally
        values: dict[str, Any] = {"items": tally.items, "squared_error_per_item": tally.squared_error / max(tally.items, 1)}
        if self.limit is not None:
            values |= {"threshold": self.limit, "outliers": tally.outliers}
        if self.judged is not None:
            values["expected_false_alarm_rate"] = self.judged.expected
            if self.run.form.window == 1:
                values["false_alarm_rate_interval"] = [self.judged.low, self.judged.high]
        labelled = tally.labelled
        judged = labelled is not None and labelled.labels and labelled.why_not() is None
        return {**values, **labelled.values(self.limit)} if labelled is not None and judged else values

    def detection(self, items: Items, name: str) -> Iterator[Records]:
        """Score the items and known intruders, and yield one object: how well the error tells them apart.

        Raises:
            InputError: there is no file, folder or data set of that name, or there are no items of one kind.
        """
        intruders = self._intruders(name)
        self.tally = Tally(self.limit, self.pictures.items, all_scores=True)
        others = Tally(self.limit, all_scores=True)
        for scored in self.tally.watch(self._scored(items)):
            self.pictures.add(scored)
        for _ in others.watch(self._scored(intruders)):
            pass
        yield Records.one(detection_values(self.tally, others, name))

    def _intruders(self, name: str) -> Items:
        if not is_data_set(name):
            return self.reader.open_rows([name])
        data = DataConfig(dataset=name, root=self.run.config.data.root)
        return self._rows(load_splits(data, False).for_model(self.run.form, str(self.run.path)).filled("test"))

    @contextlib.contextmanager
    def drawing(self, lines: Iterator[Records], top: int | None) -> Iterator[None]:
        """Draw after this block has written the lines, also where the reader of stdout leaves before their end."""
        gone = None
        try:
            yield
        except BrokenPipeError as error:
            gone = error
        if self.pictures.any:
            deque(lines, maxlen=0)  # the pictures need all items
            self.pictures.draw(self.tally, self.limit, top)
        if gone is not None:
            raise gone

    def finish(self) -> None:
        """Say how many outliers there were.

        Raises:
            TiedaeError: something could not be scored; all else is done.
        """
        if self.limit is not None and self.tally.items:
            log.info(f"{self.tally.outliers:,} of {self.tally.items:,} items are above the threshold")
        labelled = self.tally.labelled
        if labelled is not None and labelled.unlabelled:
            log.info(f"{labelled.unlabelled:,} items without a label are scored, and no measure by labels counts them")
        if labelled is not None and labelled.labels:
            log.info(labelled.why_not() or described(labelled.values(self.limit)))
        self.failures.finish(self.tally.items)
