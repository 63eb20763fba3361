"""Scoring: opens the items, sets the threshold, writes each item's score, draws, and says what was found and what failed.

Shapes: B items per block.
"""

import logging
import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tiedae_cli.config import DataConfig
from tiedae_cli.data.item_reader import ItemReader, Items
from tiedae_cli.data.item_set import ItemForm
from tiedae_cli.data.load_data import is_data_set, load_splits
from tiedae_cli.data.records import Records
from tiedae_cli.data.windows import row_form
from tiedae_cli.errors import InputError, OutliersFound
from tiedae_cli.output import figures
from tiedae_cli.output.item_writer import write_records
from tiedae_cli.output.output_targets import check_targets
from tiedae_cli.output.series_picture import SeriesPicture
from tiedae_cli.output.terminal import Terminal, write_output
from tiedae_cli.runs.trained_run import OpenRun
from tiedae_cli.scoring.drift import Drift, DriftWatch
from tiedae_cli.scoring.failures import Failures
from tiedae_cli.scoring.false_alarms import FALSE_ALARMS
from tiedae_cli.scoring.labels import described
from tiedae_cli.scoring.scored import Scored
from tiedae_cli.scoring.scorer import Scorer
from tiedae_cli.scoring.tally import Tally, detection_values
from tiedae_cli.scoring.threshold import CONFIDENCE, Threshold, least_items
from tiedae_cli.system.portability import quoted
from tiedae_cli.system.text import shown

log = logging.getLogger(__name__)

SHEET, LARGEST_SHEET = 24, 100  # items on a contact sheet: default, and at most
CAPTION = 24  # characters of an item's name under its picture


@dataclass(frozen=True)
class ScoreRequest:
    """What is scored, how it is judged, and what is made of it."""

    split: str = "test"
    """Which split to score if there are no inputs."""
    limit: float | None = None
    """The threshold, if it is given."""
    rate: float | None = None
    """The false-alarm rate that the threshold is set for; if it is given, failing to reach it is an error."""
    judges: bool = True
    """Whether items are judged by a threshold; else only scores are written."""
    top: int | None = None
    """Write only so many items, those with the highest scores; None: all, in order."""
    explain: int | None = None
    """How many of the values that carry an outlier's error are written."""
    summary: bool = False
    """Write one object about all items."""
    against: str | None = None
    """Known anomalies, a file, a folder or a data set: write one object, how well the score tells them apart."""
    fail_above: int | None = None
    """How many outliers are allowed before the command fails; None: any number."""
    sheet: Path | None = None
    """Where to draw the images with the highest scores."""
    plot: Path | None = None
    """Where to draw the scores in order, with the rows' values."""
    output: str = "-"
    """A path or ``-``."""
    file_format: str = "jsonl"
    """jsonl or csv."""


@dataclass(frozen=True)
class Limit:
    """What makes an outlier."""

    value: float | None = None
    """A higher score; None: nothing does."""
    expected: float | None = None
    """The false-alarm rate to expect, unless the value was given."""
    interval: tuple[float, float] | None = None
    """Of this rate; None for rows of a series, which are not independent."""
    threshold: Threshold | None = None
    """Where the value comes from, unless it was given."""


def score(run: OpenRun, names: Sequence[str], request: ScoreRequest, terminal: Terminal) -> None:
    """Score the items of inputs, or of a split if there are none.

    Args:
        run: the model.
        names: files, folders, ``-``.
        request: what to make of them.
        terminal: where the result is announced.

    Raises:
        InputError: an input does not exist, the threshold is not a number, or there are too few validation items for the rate.
        DataError: the data is needed and cannot be read or does not fit the model, or no item could be scored.
        OutliersFound: there are more outliers than ``fail_above``; everything else is done.
        TiedaeError: some items could not be scored; everything else is done.
    """
    pictures = _Pictures(run, request.sheet, request.plot)
    scorer, failures = Scorer(run), Failures()
    limit = _limit(scorer, request)
    reader = ItemReader(run.form, run.block_size, failures.add, data=run.config.data)
    items = reader.open_rows(names) if names else scorer.rows(run.split(request.split))
    check_targets(request.output, *(None if path is None else str(path) for path in (request.sheet, request.plot)))
    tally = _tally(run, request, limit)
    drift = _drift_watch(run)
    blocks = items.blocks if drift is None else drift.watch(items.blocks)
    found = scorer.score(blocks, failures.add, request.explain, reconstructs=request.plot is not None)
    scored = pictures.watch(tally.watch(found))
    if request.against is None:
        records = _records(scored, tally, request, limit, row_form(run.form), failures, drift, scorer.score_name)
    else:
        intruders = scorer.score(_intruders(scorer, reader, request.against).blocks, failures.add)
        records = _detection(scored, tally, intruders, request.against)
    _write(records, request, pictures, tally, scorer.score_name)
    if request.output != "-":
        terminal.result(request.output)
        terminal.json_line(output=request.output, **_summary(tally, limit, failures, drift, scorer.score_name))
    _say(tally)
    if (moved := _moved(drift, tally, limit)) is not None:
        log.warning(moved.describe())
    _fail_above(request.fail_above, tally, failures)
    failures.finish(tally.items)


def _drift_watch(run: OpenRun) -> DriftWatch | None:
    """Return what compares items with the training items; None if the checkpoint does not know them."""
    finished = run.trained.finished
    return None if finished is None else DriftWatch(finished.reference, row_form(run.form), run.form.window)


def _moved(drift: DriftWatch | None, tally: Tally, limit: Limit) -> Drift | None:
    return None if drift is None else drift.found(tally.outliers, tally.items, limit.threshold)


def _fail_above(most: int | None, tally: Tally, failures: Failures) -> None:
    """Raise ``OutliersFound`` if there are more outliers than ``--fail-above`` allows; unreadable items are counted with them."""
    if most is None or tally.outliers <= most:
        return
    failures.tell()
    unreadable = f"; {failures.count:,} items could not be read" if failures.count else ""
    raise OutliersFound(f"{tally.outliers:,} outliers, --fail-above allows {most:,}{unreadable}")


def _limit(scorer: Scorer, request: ScoreRequest) -> Limit:
    """Return what makes an outlier.

    Raises:
        InputError: there is no threshold, and the request does not do without; the message says what to type.
    """
    for option, value in (("--false-alarms", request.rate), ("--threshold", request.limit)):
        if value is not None and not math.isfinite(value):
            raise InputError(f"{option} {value}: must be a finite number")
    if request.limit is not None or not request.judges:
        return Limit(request.limit)
    rate = FALSE_ALARMS if request.rate is None else request.rate
    found = scorer.threshold(rate)
    if found is None:
        raise InputError(_no_threshold(scorer.run))
    _check_rate(scorer, found, rate, asked=request.rate is not None)
    return _announced(scorer, found)


def _no_threshold(run: OpenRun) -> str:
    """Return why a model has no threshold, and what to type."""
    if run.trained.finished is None:
        folder = quoted(run.path.parent)
        why = f"{run.path}: no threshold, because its training was killed; it is added by: tiedae train --resume {folder}"
    else:
        why = f"{run.path}: no threshold, because it was trained without validation items (data.validation)"
    return f"{why}\nwithout: --threshold SCORE sets one by hand, --no-threshold writes scores alone"


def _check_rate(scorer: Scorer, found: Threshold, rate: float, asked: bool) -> None:
    """Warn of too few validation items for a false-alarm rate; raise ``InputError`` if the user asked for the rate."""
    least = least_items(rate) if rate else 0  # 0 asks for the largest score
    if found.items < least:
        have = f"{found.items:,} validation items are" if found.items > 1 else "1 validation item is"
        problem = f"{have} too few for a false-alarm rate of {rate:g}, which needs {least:,}"
        if asked:
            smallest = f"{math.ceil(1e4 / (found.items + 1)) / 1e4:g}"
            enough = sum(split.images for split in scorer.run.trained.training.data.values()) > least
            more = f", or train with --set data.validation={least}" if enough else "; less takes more data"
            raise InputError(f"{problem}: --false-alarms {smallest}{more}")
        log.warning(f"{problem}: the threshold is their highest score")


def _announced(scorer: Scorer, found: Threshold) -> Limit:
    """Log a threshold and what it promises, and return it."""
    interval = (found.low, found.high) if scorer.window == 1 else None
    promise = (
        f" ({CONFIDENCE:.0%} interval {found.low:.2g} to {found.high:.2g})" if interval else ", if rows to come are like them"
    )
    by = f"threshold: {scorer.score_name} {found.value:.6g} by {found.items:,} validation items"
    log.info(f"{by}; expected false alarms {found.expected:.3g}{promise}")
    return Limit(found.value, found.expected, interval, found)


def _tally(run: OpenRun, request: ScoreRequest, limit: Limit) -> Tally:
    sheet = 0 if request.sheet is None else SHEET
    if request.against is not None:
        return Tally(limit.value, sheet, all_scores=True)
    data = run.config.data
    judges = request.summary or data.label is not None or bool(data.normal)
    return Tally(limit.value, max(request.top or 0, sheet), normal=data.normal if judges else None)


def _records(
    blocks: Iterable[Scored],
    tally: Tally,
    request: ScoreRequest,
    limit: Limit,
    form: ItemForm,
    failures: Failures,
    drift: DriftWatch | None,
    score_name: str,
) -> Iterator[Records]:
    """Yield what is written of each item, in order; of the ``top`` worst, worst first; or one object about all."""

    def written(scored: Scored) -> Records:
        return score_records(scored, form, limit.value, labels=tally.labelled is not None)

    for scored in blocks:
        if tally.items:
            failures.tell()
        if request.top is None and not request.summary:
            yield written(scored)
    worst = tally.worst.scored
    if request.top is not None and worst is not None and not request.summary:
        yield written(worst.only(range(min(request.top, len(worst.scores)))))
    if not tally.items:
        failures.finish(scored=0)  # here, so that no empty file takes the place of an older one
    elif request.summary:
        yield Records.one(_summary(tally, limit, failures, drift, score_name))


def _summary(tally: Tally, limit: Limit, failures: Failures, drift: DriftWatch | None, score_name: str) -> dict[str, Any]:
    """Return what is to say about all items, as the JSON interface names it."""
    values: dict[str, Any] = {
        "items": tally.items,
        "score": score_name,
        "squared_error_per_item": tally.squared_error / max(tally.items, 1),
    }
    moved = _moved(drift, tally, limit)
    values["drift"] = None if moved is None else moved.values()
    if failures.count:
        values["unreadable"] = failures.count
    if limit.value is not None:
        values |= {"threshold": limit.value, "outliers": tally.outliers}
    if limit.expected is not None:
        values["expected_false_alarm_rate"] = limit.expected
    if limit.interval is not None:
        values["false_alarm_rate_interval"] = list(limit.interval)
    labelled = tally.labelled
    judged = labelled is not None and labelled.labels and labelled.why_not() is None
    return {**values, **labelled.values(limit.value)} if labelled is not None and judged else values


def score_records(scored: Scored, form: ItemForm, limit: float | None, labels: bool = False) -> Records:
    """Return what is written of each item, as the JSON interface names it; nothing about outliers without a limit.

    Args:
        scored: the items; of outliers also why, where that is known.
        form: of an item.
        limit: a higher score makes an outlier.
        labels: whether labels are written.
    """
    values: dict[str, Sequence[Any]] = {"item": scored.block.items}
    if labels and scored.block.labels is not None:
        values["label"] = scored.block.labels
    if scored.ranked is not None:
        values["score"] = scored.ranked.tolist()
    values["squared_error"] = scored.squared_errors.tolist()
    values["mse_per_value"] = (scored.squared_errors / form.values_per_item).tolist()
    outliers = [True] * len(scored.scores)
    if limit is not None:
        values["threshold"] = [limit] * len(outliers)
        outliers = (scored.scores > limit).tolist()
        values["outlier"] = outliers
    why = scored.evidence
    if why is None:
        return Records(values)
    return Records(values, {"because": [why.described(index, form) if yes else None for index, yes in enumerate(outliers)]})


def _detection(blocks: Iterable[Scored], tally: Tally, intruders: Iterable[Scored], name: str) -> Iterator[Records]:
    """Yield one object, after all items and the known anomalies of this name are scored: how well the score tells them apart."""
    deque(blocks, maxlen=0)
    others = Tally(tally.limit, all_scores=True)
    deque(others.watch(intruders), maxlen=0)
    yield Records.one(detection_values(tally, others, name))


def _intruders(scorer: Scorer, reader: ItemReader, name: str) -> Items:
    if not is_data_set(name):
        return reader.open_rows([name])
    data, run = DataConfig(dataset=name, root=scorer.run.config.data.root), scorer.run
    return scorer.rows(load_splits(data, False).for_model(run.form, str(run.path)).filled("test"))


def _write(records: Iterator[Records], request: ScoreRequest, pictures: "_Pictures", tally: Tally, score_name: str) -> None:
    """Write the records, then draw, also if the reader of stdout leaves before their end."""
    gone = None
    try:
        write_records(request.output, request.file_format, records)
    except BrokenPipeError as error:
        gone = error
    if request.sheet is not None or request.plot is not None:
        deque(records, maxlen=0)  # the pictures need all items
        pictures.draw(tally, request.top, score_name)
    if gone is not None:
        raise gone


def _say(tally: Tally) -> None:
    """Say how many outliers there were, and how well they agree with the labels."""
    if tally.limit is not None and tally.items:
        log.info(f"{tally.outliers:,} of {tally.items:,} items are above the threshold")
    labelled = tally.labelled
    if labelled is not None and labelled.unlabelled:
        log.info(
            f"{labelled.unlabelled:,} unlabelled items were scored; they are excluded from AUROC and other label-based metrics"
        )
    if labelled is not None and labelled.labels:
        log.info(labelled.why_not() or described(labelled.values(tally.limit)))


class _Pictures:
    """What is drawn: the images with the highest scores beside their reconstructions, or a series with its scores under it.

    Args:
        run: the model.
        sheet: where the images go; None: nowhere.
        plot: where the scores go, row by row, with the rows' values.

    Raises:
        InputError: images are asked for, and the model does not take any.
    """

    def __init__(self, run: OpenRun, sheet: Path | None, plot: Path | None) -> None:
        self.run, self.sheet, self.plot = run, sheet, plot
        self.form = row_form(run.form)
        if sheet is not None:
            what = f"--contact-sheet: this model takes {run.form.describe()}, which are not images"
            run.refuse_vectors(f"{what}; --plot draws rows with their scores")
        self.series = None if plot is None else SeriesPicture(self.form)

    def watch(self, blocks: Iterable[Scored]) -> Iterator[Scored]:
        """Yield the blocks and take each into account."""
        for scored in blocks:
            if self.series is not None and scored.reconstructions is not None:
                self.series.add(scored.block, scored.reconstructions, scored.scores)
            yield scored

    def draw(self, tally: Tally, top: int | None, score_name: str) -> None:
        """Draw what is asked for.

        Args:
            tally: of all items.
            top: how many images.
            score_name: what the scores are.

        Raises:
            StorageError: a file cannot be written.
        """
        if self.sheet is not None and tally.worst.scored is not None:
            self._draw_sheet(self.sheet, tally, tally.worst.scored, top)
        if self.plot is not None and self.series is not None:
            picture = self.series.png(tally.limit, tally.outliers, score_name)
            if picture is not None:
                write_output(str(self.plot), picture)
                log.info(f"the series and its scores: {self.plot}")

    @torch.inference_mode()
    def _draw_sheet(self, path: Path, tally: Tally, kept: Scored, top: int | None) -> None:
        worst, limit = kept.only(range(min(len(kept.scores), top or SHEET, LARGEST_SHEET))), tally.limit
        values, scores = worst.block.values, worst.scores.tolist()
        reconstructions = self.run.network(torch.as_tensor(values, device=self.run.device)).cpu().numpy()
        captions = [f"{found:.2f}\n{_short(shown(str(item)))}" for item, found in zip(worst.block.items, scores, strict=True)]
        outliers = [limit is not None and found > limit for found in scores]
        which = "largest squared errors" if worst.ranked is None else "highest scores"
        title = f"the {len(scores)} {which} of {tally.items:,} items\noriginal, reconstruction, error"
        title += "" if limit is None else f"; colored: above {limit:.4g}"
        write_output(str(path), figures.contact_sheet(values, reconstructions, captions, outliers, title, self.form))
        log.info(f"the {len(scores)} worst: {path}")


def _short(name: str) -> str:
    """Return the end of a name, which tells files of one folder apart."""
    return name if len(name) <= CAPTION else "\u2026" + name[1 - CAPTION :]
