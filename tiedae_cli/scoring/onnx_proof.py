"""The proof that an exported graph answers as the program does, before its file is put in place.

Compared are the validation and test items if they can be read, else items drawn from the reference of the checkpoint, and always extreme
ones. With Q the sum of squares of an item as the model sees it, at least 1e-6 per value, scores may differ by 1e-5 of the score + 1e-6 Q:
float32 residuals of a good model allow no less. Flags may differ only within that of the threshold. The score ``neighbours`` divides
residuals by their spread: if that is no more than rounding, the score may differ by what rounding of the reconstruction makes of it,
with a warning.
Shapes: N items, B items per batch, D values per item.
"""

import copy
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tiedae_cli.data.item_set import ItemForm, ItemSet
from tiedae_cli.errors import DataError, ExportError
from tiedae_cli.runs.export_document import ExportDocument, as_input, from_input, input_type
from tiedae_cli.scoring.scorer import Scorer
from tiedae_cli.system.onnx_runtime import onnx_runtime, onnx_session

log = logging.getLogger(__name__)

RELATIVE, OF_SQUARES = 1e-5, 1e-6  # allowed difference: of the score, of the item's sum of squares
LEAST_SQUARE = 1e-6  # per value
ROUNDED, ROUNDINGS = 2.0**-21, 3  # of the largest value, random in each value; so many times
MARGIN = 4  # by how much onnxruntime's rounding may exceed torch's, and the worst rounding a random one
WORTHLESS = 0.01  # of a score: rounding that changes it by more is worth a warning
VALUES = 1e-4  # allowed difference of codes and reconstructions, relative to the largest value (at least 1)
MOST_COMPARED = 10_000  # items of the splits, drawn evenly
DRAWN = 1000  # items from the reference
BATCHES = (0, 1, 7)  # sizes of the first batches; then
BATCH = 256
LARGEST_LOGARITHM = 10.0  # whose exponential is compared
EXTREMES = (0.0, 1.0, -1.0, 1e6, -1e6)  # of constant rows, in the data's own units


@dataclass(frozen=True)
class Proof:
    """What was compared, and how far apart the answers were."""

    items: int
    source: str
    """What the items were, extreme ones aside."""
    largest_difference: float
    """Of the scores of these items."""
    share_of_allowed: float
    """The largest difference in units of the allowed one."""

    def describe(self) -> str:
        """Return the proof as a sentence."""
        return (
            f"onnxruntime and tiedae agree on {self.items:,} items {self.source}, and on extreme values: scores differ by "
            f"at most {self.largest_difference:.1e}, {self.share_of_allowed:.1%} of the tolerance; all flags agree"
        )


def prove(content: bytes, scorer: Scorer, document: ExportDocument) -> Proof:
    """Compare onnxruntime's answers with the program's.

    Args:
        content: the ONNX file.
        scorer: of the exported model, on the CPU.
        document: what the file says of itself.

    Raises:
        InputError: onnxruntime is not installed.
        ExportError: an answer differs by more than is allowed.
    """
    session = onnx_session(onnx_runtime("checking the ONNX file"), content)
    comparison = _Comparison(session, scorer, document)
    items, source = _real_items(scorer)
    for raw in _batches(items):
        comparison.add(raw)
    largest = comparison.largest
    comparison.add(_extremes(scorer.run.form))
    return Proof(len(items), source, largest, comparison.share)


def as_seen(raw: np.ndarray, form: ItemForm) -> np.ndarray:
    """Return raw values in the type of the graph's input as the program's model sees them, (B, D) -> (B, D) float32."""
    if form.range is not None:
        raw = (raw - np.float32(form.range.low)) / np.float32(form.range.high - form.range.low)
    return form.normalize(form.transformed(raw))


class _Comparison:
    """Compares batch by batch."""

    def __init__(self, session: Any, scorer: Scorer, document: ExportDocument) -> None:
        self.session, self.scorer, self.document = session, scorer, document
        self.names = [one.name for one in document.outputs]
        self.largest, self.share = 0.0, 0.0
        self.exact = copy.deepcopy(scorer.run.network).double()
        self.is_rounding = False

    @torch.inference_mode()
    def add(self, raw: np.ndarray) -> None:
        """Compare the answers for raw items, (B, D)."""
        form, network = self.scorer.run.form, self.scorer.run.network
        with np.errstate(all="ignore"):
            seen = as_seen(raw, form)
        found = dict(zip(self.names, self.session.run(self.names, {"input": as_input(raw, form)}), strict=True))
        x = torch.from_numpy(seen)
        code, made = network.encode(x), network(x)
        errors = np.square((made - x).double().numpy())
        score, total = self.scorer.ranker.scores(x, made).numpy(), errors.sum(1)
        finite = np.isfinite(score) & np.isfinite(total)
        allowed = self._allowed(score, seen)
        if self.scorer.ranker.kept:
            allowed = np.maximum(allowed, MARGIN * self._rounding(x, made, score, allowed))
        difference = self._check("score", found["score"], score, allowed, finite)
        self._check("squared_error", found["squared_error"], total, self._allowed(total, seen), finite)
        shares = from_input(found["because"], form).astype(np.float64) * total[:, None]
        self._check("because", shares, errors, self._allowed(total, seen)[:, None], finite)
        self._check_flags(found, score, allowed, finite)
        self._check_values("code", found["code"], code.numpy(), finite)
        self._check_values("reconstruction", from_input(found["reconstruction"], form), made.numpy(), finite)
        if finite.any():
            self.largest = max(self.largest, float(difference[finite].max()))
            shares = difference[finite] / np.maximum(allowed[finite], 1e-300)
            self.share = max(self.share, float(shares.max()))

    def _allowed(self, score: np.ndarray, seen: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            squares = np.square(seen.astype(np.float64)).sum(1)
            allowed: np.ndarray = RELATIVE * np.abs(score) + OF_SQUARES * np.fmax(squares, LEAST_SQUARE * seen.shape[1])
        return allowed

    def _rounding(self, x: Tensor, made: Tensor, score: np.ndarray, allowed: np.ndarray) -> np.ndarray:
        """Return by how much rounding of the reconstruction moves each score, (B,); infinite scores are not compared.

        A reconstruction is rounded by what torch's differs from the same network in float64.
        """
        generator = torch.Generator().manual_seed(0)
        largest = ROUNDED * torch.maximum(x.abs(), made.abs()).amax(1, keepdim=True) if len(x) else x
        if len(x):
            error = (made - self.exact(x.double())).abs().amax(1, keepdim=True).float()
            largest = torch.maximum(largest, MARGIN * error)
        moved = np.zeros_like(score)
        with np.errstate(all="ignore"):
            for _ in range(ROUNDINGS):
                noise = largest * (2 * torch.rand(made.shape, generator=generator) - 1)
                moved = np.fmax(moved, np.abs(self.scorer.ranker.scores(x, made + noise).numpy() - score))
            if bool((moved > np.maximum(allowed, WORTHLESS * score)).any()) and not self.is_rounding:
                self.is_rounding = True
                log.warning(
                    "the reconstruction errors of this model are hardly more than the rounding of float32, and so are its scores: "
                    "a code smaller than the item makes better ones"
                )
        return moved

    def _check(self, name: str, found: np.ndarray, expected: np.ndarray, allowed: np.ndarray, finite: np.ndarray) -> np.ndarray:
        """Return the differences; raise ``ExportError`` if one is not allowed."""
        with np.errstate(all="ignore"):
            difference: np.ndarray = np.abs(found - expected)
            wrong = finite & ~(difference <= allowed).all(tuple(range(1, difference.ndim)))
        if wrong.any():
            row = int(wrong.argmax())
            worst = float(difference[row].max())
            limit = float(np.broadcast_to(allowed, difference.shape)[row].max())
            raise ExportError(
                f"onnxruntime's {name} differs from the model's by {worst:g}, more than {limit:g}; no file was written"
            )
        return difference

    def _check_flags(self, found: dict[str, np.ndarray], score: np.ndarray, allowed: np.ndarray, finite: np.ndarray) -> None:
        limit = self.document.threshold.value
        expected = ~(score <= limit)
        close = finite & (np.abs(score - limit) <= allowed)
        if (bool((found["outlier"] != expected)[~close].any())) or float(found["threshold"]) != limit:
            raise ExportError("onnxruntime flags other items than the model; no file was written")

    def _check_values(self, name: str, found: np.ndarray, expected: np.ndarray, finite: np.ndarray) -> None:
        form = self.scorer.run.form
        if name == "reconstruction":  # in the units that the model sees, where float32 is fine enough
            with np.errstate(all="ignore"):
                found = as_seen(found, form) if form.transform == "none" else _logarithms(found, expected, form)
        if not finite.any():
            return
        scale = max(1.0, float(np.abs(expected[finite]).max()))
        difference = float(np.abs(found[finite] - expected[finite]).max())
        if not difference <= VALUES * scale:
            raise ExportError(f"onnxruntime's {name} differs from the model's by {difference:g}; no file was written")


def _logarithms(found: np.ndarray, expected: np.ndarray, form: ItemForm) -> np.ndarray:
    """Return reconstructions in the data's own units as the model sees them, (B, D), where the exponential keeps their digits."""
    raw = form.denormalize(expected.astype(np.float64))
    seen = form.normalize(np.log1p(found.astype(np.float64)))
    return np.where((raw > -LARGEST_LOGARITHM) & (raw < LARGEST_LOGARITHM), seen, expected)


def _real_items(scorer: Scorer) -> tuple[np.ndarray, str]:
    """Return raw items in the type of the graph's input, (N, D), and what they are."""
    run = scorer.run
    form = run.form
    try:
        sets = [items for items in (run.splits.validation, run.splits.test) if len(items)]
        scaled = form.kind == "vectors" or all(one.form.scale == form.scale and one.form.range == form.range for one in sets)
        if sets and scaled:
            share = min(1.0, MOST_COMPARED / sum(map(len, sets)))
            raw = np.concatenate([_own_values(_evenly(items, share), form) for items in sets])
            return raw, "of the validation and test split" + ("" if share == 1.0 else ", drawn evenly")
        why = f"{run.splits.source} has no validation or test items in the units of the training"
    except DataError as problem:
        why = f"the data cannot be read: {problem}"
    log.warning(f"the ONNX file is checked with items drawn from the reference statistics, because {why}")
    return _drawn(scorer), "drawn from the reference statistics"


def _evenly(items: ItemSet, share: float) -> ItemSet:
    count = max(1, int(len(items) * share))
    return items if count == len(items) else items.subset(np.arange(count) * len(items) // count)


def _own_values(items: ItemSet, form: ItemForm) -> np.ndarray:
    """Return the items of a set as the graph takes them, (N, D)."""
    raw = items.raw(0, len(items)).astype(input_type(form))
    raw = raw if form.transform == "none" else np.expm1(raw)  # item sets hold transformed values
    if form.range is not None:
        raw = raw * np.float32(form.range.high - form.range.low) + np.float32(form.range.low)
    return raw


def _drawn(scorer: Scorer) -> np.ndarray:
    """Return items drawn by the mean and deviation of each training value, within its range, (N, D); without a reference, noise."""
    run, generator = scorer.run, np.random.default_rng(0)
    form, finished = run.form, run.trained.finished
    shape = (DRAWN, form.values_per_item)
    if finished is None:
        seen = generator.random(shape) if form.kind == "images" else generator.standard_normal(shape)
    else:
        known = finished.reference
        mean, deviation, low, high = (
            np.tile(value.double().numpy(), form.window) for value in (known.mean, known.deviation, known.low, known.high)
        )
        seen = np.clip(mean + deviation * generator.standard_normal(shape), low, high)
    raw = form.restored(seen)
    raw = raw if form.transform == "none" else np.maximum(raw, 0)
    if form.eight_bit:
        raw = np.rint(raw)
    if form.range is not None:
        raw = raw * (form.range.high - form.range.low) + form.range.low
    return raw.astype(input_type(form))


def _extremes(form: ItemForm) -> np.ndarray:
    """Return extreme items, (N, D): constant ones, one large value, alternating values, and a missing one where that is allowed."""
    width, kind = form.values_per_item, input_type(form)
    if form.kind == "images":
        top = 255.0 if form.eight_bit else 1.0 if form.range is None else form.range.high
        low = 0.0 if form.range is None else form.range.low
        levels: tuple[float, ...] = (low, (low + top) / 2, top)
    else:
        levels = EXTREMES if form.transform == "none" else tuple(map(abs, EXTREMES))
    rows = [np.full(width, level) for level in levels]
    rows.append(np.where(np.arange(width) % 2, levels[0], levels[-1]))
    rows.append(np.where(np.arange(width) == width // 2, levels[-1], levels[0]))
    if form.fill is not None:
        rows += [np.full(width, np.nan), np.where(np.arange(width) % 2, np.nan, 1.0)]
    return np.stack(rows).astype(kind)


def _batches(raw: np.ndarray) -> Iterator[np.ndarray]:
    start = 0
    for size in BATCHES:
        yield raw[start : start + size]
        start += size
    for first in range(start, len(raw), BATCH):
        yield raw[first : first + BATCH]
