"""What the commands do with an exported file: score, encode, decode, reconstruct; the same keys and formats as with a checkpoint.

Shapes: B items per block, D values per item.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tiedae_cli.data.image_files import expand_folders, load_image_files
from tiedae_cli.data.item_reader import ItemReader, Items, check_id
from tiedae_cli.data.item_set import Block
from tiedae_cli.data.records import Records, item_columns
from tiedae_cli.data.windows import row_form
from tiedae_cli.errors import InputError, OutliersFound
from tiedae_cli.exported.exported_file import ExportedModel, form_of_codes, refuse_without_data
from tiedae_cli.exported.exported_scores import ExportedScores, exported_scores
from tiedae_cli.output import figures
from tiedae_cli.output.decoded_items import write_decoded
from tiedae_cli.output.figures import Answers
from tiedae_cli.output.item_writer import NumberColumn, write_records, writes_ids
from tiedae_cli.output.output_targets import check_targets
from tiedae_cli.output.reconstruction_picture import Reconstruction
from tiedae_cli.output.terminal import Terminal
from tiedae_cli.runs.export_document import ThresholdFacts
from tiedae_cli.scoring.failures import Failures
from tiedae_cli.scoring.scored_item import ScoredItem, item_of
from tiedae_cli.system.portability import quoted

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportedRequest:
    """What is scored and how it is judged; the options of ``tiedae score`` that an exported file can answer."""

    limit: float | None = None
    """The threshold, if it is given."""
    rate: float | None = None
    """The false-alarm rate; None: that of the file."""
    judges: bool = True
    top: int | None = None
    summary: bool = False
    fail_above: int | None = None
    output: str = "-"
    file_format: str = "jsonl"
    key: str | None = None
    """The column with the user's key of each item; None: detected."""


@dataclass
class _Seen:
    """What was counted."""

    items: int = 0
    outliers: int = 0
    squared_error: float = 0.0
    highest: ScoredItem | None = None


def score_exported(model: ExportedModel, inputs: Sequence[str], request: ExportedRequest, terminal: Terminal) -> None:
    """Score the items of inputs.

    Args:
        model: the exported file.
        inputs: files, folders, ``-``.
        request: what to make of them.
        terminal: where the result is announced.

    Raises:
        InputError: an input does not exist, or the file has no threshold for the rate.
        DataError: no item could be scored.
        OutliersFound: there are more outliers than ``fail_above``; everything else is done.
        TiedaeError: some items could not be scored; everything else is done.
    """
    refuse_without_data(model, inputs, "score")
    limit, failures, seen = _limit(model, request), Failures(), _Seen()
    check_id(request.key, inputs)
    items = model.reader(failures.add, finds_id=True, key=request.key).open_rows(inputs)
    check_targets(request.output)
    scored = exported_scores(model, items.blocks, failures.add)
    columns = (_columns(model, items, one, limit) for one in _counted(scored, limit, seen))
    records = _records(model, columns, request, limit, seen, failures)
    write_records(request.output, request.file_format, records)
    if request.output != "-":
        terminal.result(request.output)
        terminal.json_line(output=request.output, **_summary(model, seen, limit, failures))
    if limit is not None and seen.items:
        log.info(f"{seen.outliers:,} of {seen.items:,} items are above the threshold")
    if request.fail_above is not None and seen.outliers > request.fail_above:
        failures.tell()
        unreadable = f"; {failures.count:,} items could not be read" if failures.count else ""
        raise OutliersFound(f"{seen.outliers:,} outliers, --fail-above allows {request.fail_above:,}{unreadable}")
    failures.finish(seen.items)


def _limit(model: ExportedModel, request: ExportedRequest) -> ThresholdFacts | None:
    """Return what makes an outlier; None if nothing does."""
    if request.limit is not None:
        return ThresholdFacts(value=request.limit, rate=None)
    if not request.judges:
        return None
    document = model.document
    windows = document.window > 1
    found = document.row_threshold if windows else document.threshold
    known = document.row_thresholds if windows else document.thresholds
    if request.rate is not None:
        found = next((one for one in (*known, found) if one is not None and one.rate == request.rate), None)
    if found is None:
        offered = ", ".join(f"{one.rate:g}" for one in known) or "none"
        raise InputError(
            f"{model.path}: it has no threshold for a false-alarm rate of {request.rate}; it has those for {offered}. "
            f"For another one: tiedae export MODEL --part score --false-alarms {request.rate} -o {quoted(str(model.path))}"
        )
    promise = (
        "" if found.expected_false_alarm_rate is None else f"; expected false alarms {found.expected_false_alarm_rate:.3g}"
    )
    log.info(f"threshold: {document.score_name} {found.value:.6g}{promise}")
    return found


def _counted(blocks: Iterator[ExportedScores], limit: ThresholdFacts | None, seen: _Seen) -> Iterator[ExportedScores]:
    for scored in blocks:
        seen.items += len(scored.scores)
        seen.outliers += 0 if limit is None else int((scored.scores > limit.value).sum())
        seen.squared_error += float(scored.squared_errors.sum())
        if len(scored.scores) and (seen.highest is None or scored.scores.max() > seen.highest.score):
            place = int(scored.scores.argmax())
            seen.highest = item_of(scored.block, place, float(scored.scores[place]))
        yield scored


def _records(
    model: ExportedModel,
    blocks: Iterator[tuple[np.ndarray, dict[str, Sequence[Any]]]],
    request: ExportedRequest,
    limit: ThresholdFacts | None,
    seen: _Seen,
    failures: Failures,
) -> Iterator[Records]:
    """Yield what is written of each item, in order; of the ``top`` worst, worst first; or one object about all.

    Args:
        model: the exported file.
        blocks: scores and columns of the items.
        request: what to make of them.
        limit: what makes an outlier.
        seen: what was counted.
        failures: of the items.
    """
    worst: tuple[np.ndarray, dict[str, list[Any]]] | None = None
    for scores, columns in blocks:
        if seen.items:
            failures.tell()
        if request.summary:
            continue
        if request.top is None:
            yield Records(columns)
        elif len(scores):
            worst = _worst(worst, scores, columns, request.top)
    if worst is not None:
        yield Records(worst[1])
    if not seen.items:
        failures.finish(scored=0)  # here, so that no empty file takes the place of an older one
    elif request.summary:
        yield Records.one(_summary(model, seen, limit, failures))


def _columns(
    model: ExportedModel, items: Items, scored: ExportedScores, limit: ThresholdFacts | None
) -> tuple[np.ndarray, dict[str, Sequence[Any]]]:
    """Return the scores of a block, and what is written of each item, with the keys of ``tiedae score``."""
    data = model.config.data
    values: dict[str, Sequence[Any]] = item_columns(scored.block, items)
    if (data.label is not None or data.normal) and scored.block.labels is not None:
        values["label"] = scored.block.labels
    if scored.ranked is not None:
        values["score"] = scored.ranked.tolist()
    values["squared_error"] = scored.squared_errors.tolist()
    values["mse_per_value"] = (scored.squared_errors / row_form(model.form).values_per_item).tolist()
    if limit is not None:
        values["threshold"] = [limit.value] * len(scored.scores)
        values["outlier"] = (scored.scores > limit.value).tolist()
    return scored.scores, values


def _worst(
    before: tuple[np.ndarray, dict[str, list[Any]]] | None, scores: np.ndarray, columns: dict[str, Sequence[Any]], count: int
) -> tuple[np.ndarray, dict[str, list[Any]]]:
    """Return the highest scores of what was kept and a block, highest first; of equal scores the earlier item."""
    if before is not None:
        scores = np.concatenate([before[0], scores])
        columns = {key: [*before[1][key], *values] for key, values in columns.items()}
    kept = np.argsort(-scores, kind="stable")[:count]
    return scores[kept], {key: [values[index] for index in kept.tolist()] for key, values in columns.items()}


def _summary(model: ExportedModel, seen: _Seen, limit: ThresholdFacts | None, failures: Failures) -> dict[str, Any]:
    values: dict[str, Any] = {
        "items": seen.items,
        "score": model.document.score_name,
        "squared_error_per_item": seen.squared_error / max(seen.items, 1),
    }
    if failures.count:
        values["unreadable"] = failures.count
    if limit is not None:
        values |= {"threshold": limit.value, "outliers": seen.outliers}
    if seen.highest is not None:
        values["highest"] = seen.highest.values()
    if limit is not None:
        if limit.expected_false_alarm_rate is not None:
            values["expected_false_alarm_rate"] = limit.expected_false_alarm_rate
        if limit.false_alarm_rate_interval is not None:
            values["false_alarm_rate_interval"] = list(limit.false_alarm_rate_interval)
    return values


def encode_exported(
    model: ExportedModel, inputs: Sequence[str], output: str, kind: str, key: str | None = None
) -> tuple[int, int]:
    """Write the codes of inputs; return their number and size. Arguments as of ``encode_items``.

    Raises:
        InputError: no input has the column ``key``.
        DataError: an item cannot be read; none is skipped.
        StorageError: the codes cannot be written; an older file stays intact.
    """
    refuse_without_data(model, inputs, "encode")
    has_keys = writes_ids(kind, key)
    check_id(key, inputs)
    items = replace(model.reader(finds_id=has_keys, key=key).open(inputs), has_lines=False)
    blocks = (Records({**item_columns(block, items), "code": model.answers(block.values, "code")[0]}) for block in items.blocks)
    size = model.code_size
    return write_records(output, kind, blocks, NumberColumn("code", (size,), np.dtype(np.float32)), items.count), size


def decode_exported(model: ExportedModel, codes: str, output: str, kind: str, as_float: bool) -> int:
    """Decode codes and write the items; return their number.

    Args:
        model: the exported file.
        codes: a file with codes, or ``-`` for stdin.
        output: a path or ``-``.
        kind: png (a grid of images), or an item format.
        as_float: write images as floats in [0, 1], without rounding to 8 bits.

    Raises:
        DataError: a row is not a code of this model.
        InputError: there are more images than a grid holds.
        StorageError: the output cannot be written; an older file stays intact.
    """
    size, form = model.code_size, model.form
    expected = f"this model's codes have {size} numbers"
    items = ItemReader(form_of_codes(size), model.block_size, expected=expected, key="code").open([codes])
    answers = (Block(block.items, model.seen(model.decode(block.values))) for block in items.blocks)
    return write_decoded(answers, items.count, form, model.config.data.transform, output, kind, as_float)


def reconstruct_exported(model: ExportedModel, inputs: Sequence[str]) -> Reconstruction:
    """Reconstruct the images in files; without PCA, which an exported file does not hold.

    Raises:
        InputError: the model's items are not images, or there are more than one picture holds.
        DataError: the images cannot be read.
    """
    refuse_without_data(model, inputs, "reconstruct")
    form = model.form
    if form.kind != "images":
        raise InputError(f"reconstruct needs an image model; {model.path} takes {form.describe()}")
    images = load_image_files(expand_folders(inputs), form)
    figures.check_pairs(len(images), form)
    raw = images.raw(0, len(images))
    if not form.eight_bit:
        raw = images.batch(0, len(images))
        limits = form.range
        raw = raw if limits is None else raw * np.float32(limits.high - limits.low) + np.float32(limits.low)
    made, errors = model.answers(raw, "reconstruction", "squared_error")
    originals = figures.as_pictures(images.batch(0, len(images)), form)
    found = errors.tolist()
    drawn = Answers(
        "reconstruction",
        f"mean {figures.short_error(sum(found) / len(found))}",
        figures.as_pictures(model.seen(made), form),
        found,
    )
    what = inputs[0] if len(inputs) == 1 else f"{len(images):,} images"
    title = (f"{model.document.run}: {model.path.name}", f"{what}; numbers: squared error per image")
    return Reconstruction([Answers("original", "", originals), drawn], title, found)
