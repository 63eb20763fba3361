"""The part ``score`` of an export: one ONNX graph from raw values to score, outlier, reconstruction, code and reasons.

The graph repeats the program's arithmetic: scaling, squares, ranks and threshold in float64 (bytes are scaled in float32, as the program
does), the network in float32.
Shapes: B items per batch, D values per item, K numbers per code.
"""

import hashlib
import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tiedae_cli.data.item_set import ItemForm
from tiedae_cli.data.windows import row_form
from tiedae_cli.errors import InputError
from tiedae_cli.model.autoencoder import TiedAutoencoder
from tiedae_cli.model.onnx_graph import (
    OnnxGraph,
    append_decoder,
    append_encoder,
    append_inverse,
    append_transform,
    refuse_beyond_limit,
    serialize,
)
from tiedae_cli.runs.checkpoint import Checkpoint
from tiedae_cli.runs.export_document import (
    KEY,
    RATES,
    ExportDocument,
    TensorFacts,
    ThresholdFacts,
    input_shape,
    new_document,
)
from tiedae_cli.scoring.false_alarms import FALSE_ALARMS
from tiedae_cli.scoring.neighbours import Neighbours
from tiedae_cli.scoring.rankers import Ranker
from tiedae_cli.scoring.scorer import Scorer
from tiedae_cli.scoring.threshold import Threshold, least_items
from tiedae_cli.system.optional_packages import optional_package

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class JudgedBy:
    """How the exported graph judges."""

    rate: float | None = None
    """The false-alarm rate that its threshold is set for; None: the default."""
    limit: float | None = None
    """The threshold, if it is given."""


def score_document(scorer: Scorer, judged: JudgedBy) -> ExportDocument:
    """Return what the exported file says of itself.

    Args:
        scorer: of the model.
        judged: how it judges.

    Raises:
        InputError: there is no threshold, or there are too few validation items for the rate; the message says what to type.
    """
    run, windows = scorer.run, scorer.window > 1
    threshold = _threshold(scorer, judged, rows=False)
    if threshold is None:
        raise InputError(
            f"{run.path}: no threshold to put into the file, because it keeps no validation scores; set one: --threshold SCORE"
        )
    ranker, finished = scorer.ranker, run.trained.finished
    bounds = None
    if finished is not None and run.form.kind == "vectors":
        form = row_form(run.form)
        low, high = (form.restored(value.double().numpy()) for value in (finished.reference.low, finished.reference.high))
        bounds = (tuple(low.tolist()), tuple(high.tolist()))
    return new_document(
        run.form,
        run.config,
        run.network.sizes[-1],
        run=run.trained.run,
        score_name=scorer.score_name,
        checkpoint_sha256=_digest(run.trained),
        training_range=bounds,
        training_items_inside=len(ranker.references) if isinstance(ranker, Neighbours) else 0,
        threshold=threshold,
        thresholds=_thresholds(scorer, rows=False),
        row_threshold=_threshold(scorer, judged, rows=True) if windows else None,
        row_thresholds=_thresholds(scorer, rows=True) if windows else (),
    )


def _digest(trained: Checkpoint) -> str:
    """Return the SHA-256 of the checkpoint as a file."""
    file = io.BytesIO()
    trained.write(file)
    return hashlib.sha256(file.getbuffer()).hexdigest()


def _threshold(scorer: Scorer, judged: JudgedBy, rows: bool) -> ThresholdFacts | None:
    """Return the threshold that the file judges by; None if the model keeps no validation scores."""
    if judged.limit is not None:
        return ThresholdFacts(value=judged.limit, rate=None)
    rate = FALSE_ALARMS if judged.rate is None else judged.rate
    found = (scorer.threshold if rows else scorer.item_threshold)(rate)
    if found is not None and rate and found.items < least_items(rate):
        problem = f"{found.items:,} validation items are too few for a false-alarm rate of {rate:g}, which needs {least_items(rate):,}"
        if judged.rate is not None:
            raise InputError(f"{problem}: choose a higher rate, or set the threshold: --threshold SCORE")
        log.warning(f"{problem}: the threshold is their highest score")
    return None if found is None else _facts(found, rate, rows)


def _facts(found: Threshold, rate: float, rows: bool) -> ThresholdFacts:
    interval = None if rows else (found.low, found.high)
    return ThresholdFacts(
        value=found.value,
        rate=rate,
        expected_false_alarm_rate=found.expected,
        false_alarm_rate_interval=interval,
        validation_items=found.items,
    )


def _thresholds(scorer: Scorer, rows: bool) -> tuple[ThresholdFacts, ...]:
    """Return the thresholds for the rates that there are enough validation items for."""
    found = [(rate, (scorer.threshold if rows else scorer.item_threshold)(rate)) for rate in RATES]
    return tuple(_facts(one, rate, rows) for rate, one in found if one is not None and one.items >= least_items(rate))


def build_score_onnx(model: TiedAutoencoder, form: ItemForm, ranker: Ranker, document: ExportDocument) -> bytes:
    """Return an ONNX file that takes raw values and gives what ``document.outputs`` lists; the batch is free.

    Each tied weight is one tensor in the file.

    Args:
        model: on the CPU.
        form: form of an item.
        ranker: ranks the items, on the CPU.
        document: what the file says of itself.

    Raises:
        InputError: the package is not installed.
        ExportError: the file would exceed 2 GiB, or ONNX cannot represent the ranker.
    """
    onnx = optional_package("onnx", "onnx", "writing ONNX")
    refuse_beyond_limit([*model.state_dict().values(), *ranker.tensors().values()])
    graph = OnnxGraph(onnx, "input", (form.values_per_item,))
    x = _append_scaling(graph, form)
    graph.last, graph.shape = x, (form.values_per_item,)
    append_encoder(graph, model)
    graph.name("code")
    append_decoder(graph, model)
    graph.reshape((form.values_per_item,))
    made = graph.last
    limit = graph.constant("threshold", np.array(document.threshold.value))
    squares = graph.squares(x, made)
    total = graph.reduced("ReduceSum", squares, keepdims=True)  # (B, 1)
    score = ranker.onnx(graph, x, made)
    least = graph.constant("smallest_error", np.array(1e-30))
    share = graph.cast(graph.add("Div", squares, graph.add("Max", total, least)), "FLOAT")
    found = {
        "score": score,
        "outlier": graph.add("Not", graph.add("LessOrEqual", score, limit)),  # true for NaN, which no comparison is
        "squared_error": graph.reshaped(total, ()),
        "reconstruction": _append_own_units(graph, made, form),
        "because": _append_item_shape(graph, share, form),
    }
    for name, value in found.items():
        graph.nodes.append(onnx.helper.make_node("Identity", (value,), (name,)))
    inputs, outputs = (_value_infos(onnx, facts) for facts in (document.inputs, document.outputs))
    metadata = {KEY: document.model_dump_json(), "part": "score", "run": document.run, "tiedae": document.tiedae}
    return serialize(graph, inputs, outputs, f"anomaly score of {form.describe()}; see {KEY} in the metadata", metadata)


def _value_infos(onnx: Any, facts: Sequence[TensorFacts]) -> list[Any]:
    types = {"float32": "FLOAT", "float64": "DOUBLE", "uint8": "UINT8", "bool": "BOOL"}
    return [
        onnx.helper.make_tensor_value_info(one.name, getattr(onnx.TensorProto, types[one.type]), one.shape) for one in facts
    ]


def _append_scaling(graph: OnnxGraph, form: ItemForm) -> str:
    """Append what turns raw values into those that the model sees, (B, D) float32, and return their name."""
    if form.kind == "vectors":
        rows = graph.reshaped("input", (form.values_per_item,)) if form.window > 1 else "input"
        rows = append_transform(graph, rows, form, np.float64)
        if form.fill is not None:
            rows = graph.add("Where", graph.add("IsNaN", rows), graph.constant("fill", form.fill.astype(np.float64)), rows)
        if form.offset is not None:
            rows = graph.add("Sub", rows, graph.constant("offset", form.offset.astype(np.float64)))
        return graph.cast(graph.add("Mul", rows, graph.constant("scale", np.asarray(form.scale, np.float64))), "FLOAT")
    pixels = "input"
    if form.eight_bit:
        pixels = graph.cast(pixels, "FLOAT")
    if form.range is not None:
        low, width = (np.array(value, np.float32) for value in (form.range.low, form.range.high - form.range.low))
        pixels = graph.add("Sub", pixels, graph.constant("low", low))
        pixels = graph.add("Div", pixels, graph.constant("width", width))
    if form.scale != 1.0:
        pixels = graph.add("Mul", pixels, graph.constant("scale", np.asarray(form.scale, np.float32)))
    if form.shape[0] > 1:
        pixels = graph.add("Transpose", pixels, perm=[0, 3, 1, 2])
    return graph.reshaped(pixels, (form.values_per_item,))


def _append_own_units(graph: OnnxGraph, made: str, form: ItemForm) -> str:
    """Append what turns reconstructions, (B, D) float32, into the units and the shape of the input."""
    if form.kind == "vectors":
        raw = graph.add("Div", graph.cast(made, "DOUBLE"), graph.constant("scale", np.asarray(form.scale, np.float64)))
        if form.offset is not None:
            raw = graph.add("Add", raw, graph.constant("offset", form.offset.astype(np.float64)))
        raw = append_inverse(graph, raw, form, np.float64)
        return _append_item_shape(graph, raw, form)
    if form.scale != 1.0:
        made = graph.add("Div", made, graph.constant("scale", np.asarray(form.scale, np.float32)))
    if form.range is not None:
        made = graph.add("Add", graph.add("Mul", made, "width"), "low")
    return _append_item_shape(graph, made, form)


def _append_item_shape(graph: OnnxGraph, values: str, form: ItemForm) -> str:
    """Append what gives values, (B, D), the shape of the input."""
    if form.kind == "images" and form.shape[0] > 1:
        return graph.add("Transpose", graph.reshaped(values, form.shape), perm=[0, 2, 3, 1])
    shape = input_shape(form)
    return values if shape == (form.values_per_item,) else graph.reshaped(values, shape)
