"""What an ONNX file with the part ``score`` says of itself, as JSON in its metadata; without torch, because whoever reads it has none.

Shapes: B items per batch, D values per item, K numbers per code; C x H x W of an image; windows of W rows.
"""

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from tiedae_cli import __version__
from tiedae_cli.config import Config
from tiedae_cli.config.shareable import without_folders
from tiedae_cli.config.yaml_reader import validate_config
from tiedae_cli.data.columns import Columns
from tiedae_cli.data.item_set import KINDS, ItemForm, ValueRange
from tiedae_cli.errors import CheckpointError, ConfigError
from tiedae_cli.system.regular_files import open_regular

STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
KEY = "tiedae_model"  # of the ONNX file's metadata
FORMAT, VERSION = "tiedae exported model", 1
SUFFIX = ".onnx"
HEAD = b"\x08\x09\x12\x06tiedae"  # format version and producer, the first fields of the file
RATES = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0005, 0.0002, 0.0001)  # of the thresholds in the file
InputType = Literal["uint8", "float32", "float64"]


def is_exported(word: str | None) -> bool:
    """Return whether a word names an ONNX file, by its suffix or by how tiedae's begin."""
    if word is None or word == "-":
        return False
    path = Path(word)
    if path.suffix.lower() == SUFFIX:
        return path.is_file()
    with contextlib.suppress(OSError, ValueError), open_regular(path) as file:
        return file.read(len(HEAD)) == HEAD
    return False


class ThresholdFacts(BaseModel):
    """A threshold and the false-alarm rate that it promises."""

    model_config = STRICT

    value: float
    """A higher score makes an outlier."""
    rate: float | None
    """The false-alarm rate that was asked for; None if the threshold was given."""
    expected_false_alarm_rate: float | None = None
    false_alarm_rate_interval: tuple[float, float] | None = None
    """95%; None for rows of a series, which are not independent."""
    validation_items: int | None = None
    """Held-out normal items that it was taken from."""


class TensorFacts(BaseModel):
    """An input or output of the graph."""

    model_config = STRICT

    name: str
    type: str
    shape: tuple[str | int, ...]
    meaning: str


class ExportDocument(BaseModel):
    """The JSON document of an exported model."""

    model_config = STRICT

    format: str
    version: int
    tiedae: str
    """The version that wrote the file."""
    run: str
    checkpoint_sha256: str
    """Digest of the checkpoint that was exported."""
    kind: str
    """images or vectors."""
    shape: tuple[int, int, int]
    """(C, H, W) of an item; windows are (1, W, D)."""
    source_shape: tuple[int, ...] | None
    """Of images: the shape of an item in the training array, in which ``decode`` writes; None: (H, W) if gray, else (C, H, W)."""
    units: str
    columns: Columns | None
    """The named columns in the order in which the graph takes them."""
    range: ValueRange | None
    transform: str
    """What the graph does with the values before it scales them."""
    window: int
    """Rows of a window; 1 if an item is a row."""
    stride: int
    window_order: str | None
    missing: str
    """What the graph does with NaN."""
    training_range: tuple[tuple[float, ...], tuple[float, ...]] | None
    """The smallest and largest training value of each column, in the data's own units; None for images."""
    rank: str
    score_name: str
    """What the score that ``tiedae score`` judges by is called."""
    training_items_inside: int
    """How many training items the file embeds (``neighbours``)."""
    threshold: ThresholdFacts
    """The default of the graph's input ``threshold``; of windows, of whole windows."""
    thresholds: tuple[ThresholdFacts, ...]
    """For other false-alarm rates; of windows, of whole windows."""
    row_threshold: ThresholdFacts | None
    """Of windows: the threshold of row scores, by which ``tiedae score`` judges."""
    row_thresholds: tuple[ThresholdFacts, ...]
    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    config: dict[str, Any]

    def form(self) -> ItemForm:
        """Return the form of an item in the data's own units: nothing is left to scale."""
        fill = None if self.missing == "refused" else np.zeros(int(np.prod(self.shape)))
        form = ItemForm(self.shape, self.kind, scale=self.scale, fill=fill, range=self.range, columns=self.columns)
        return replace(form, source_shape=self.source_shape)

    @property
    def scale(self) -> float:
        """How the model sees images: bytes as 0 to 1."""
        return 1 / 255 if self.input_type == "uint8" else 1.0

    @property
    def input_type(self) -> str:
        """The type of the values that the graph takes."""
        return self.inputs[0].type


def input_type(form: ItemForm) -> InputType:
    """Return the type in which the graph takes the values of items."""
    return "float64" if form.kind == "vectors" else "uint8" if form.eight_bit else "float32"


def input_shape(form: ItemForm) -> tuple[int, ...]:
    """Return the shape of one item as the graph takes it: (D,), (W, D), (H, W) or (H, W, C)."""
    channels, height, width = form.shape
    if form.kind == "vectors":
        return (width,) if height == 1 else (height, width)
    return (height, width) if channels == 1 else (height, width, channels)


def as_input(values: np.ndarray, form: ItemForm) -> np.ndarray:
    """Return items channels first, (B, D), in the shape that the graph takes, without a change of type."""
    if form.kind == "images" and form.shape[0] > 1:
        return np.ascontiguousarray(np.moveaxis(values.reshape(len(values), *form.shape), 1, -1))
    return values.reshape(len(values), *input_shape(form))


def from_input(values: np.ndarray, form: ItemForm) -> np.ndarray:
    """Return what the graph gives in the shape of its input as (B, D), channels first: the inverse of ``as_input``."""
    if form.kind == "images" and form.shape[0] > 1:
        values = np.moveaxis(values, -1, 1)
    return values.reshape(len(values), form.values_per_item)


def tensor_facts(form: ItemForm, code: int, rank: str) -> tuple[tuple[TensorFacts, ...], tuple[TensorFacts, ...]]:
    """Return the inputs and the outputs of the graph for items of a form.

    Args:
        form: of an item.
        code: K.
        rank: ``score.rank``.
    """
    item, batch = input_shape(form), ("batch",)
    kind = input_type(form)
    own = "float64" if kind == "float64" else "float32"
    judged = " of the whole window" if form.window > 1 else ""
    inputs = (
        TensorFacts(name="input", type=kind, shape=(*batch, *item), meaning=_units(form)),
        TensorFacts(name="threshold", type="float64", shape=(), meaning="optional: a score above which an item is an outlier"),
    )
    outputs = (
        ("score", "float64", (), f"{rank}{judged}: the higher, the more anomalous"),
        ("outlier", "bool", (), "whether the score is above the threshold, or not a number"),
        ("threshold", "float64", None, "the threshold that was used"),
        ("squared_error", "float64", (), "of the reconstruction as the model sees it, summed over the item's values"),
        ("reconstruction", own, item, "in the units of the input"),
        ("code", "float32", (code,), "the code"),
        ("because", "float32", item, "each value's share of the squared error"),
    )
    described = (
        TensorFacts(name=name, type=kind, shape=() if shape is None else (*batch, *shape), meaning=meaning)
        for name, kind, shape, meaning in outputs
    )
    return inputs, tuple(described)


def _units(form: ItemForm) -> str:
    if form.kind == "vectors":
        order = " by column order" if form.window == 1 else ", rows in order of time, each by column order"
        return f"the data's own units{order}; a category is 1 in its own column and 0 in the others"
    if form.eight_bit:
        return "pixels as bytes, 0 to 255"
    low, high = (0.0, 1.0) if form.range is None else (form.range.low, form.range.high)
    return f"pixels from {low:g} to {high:g}"


def new_document(form: ItemForm, config: Config, code: int, **facts: Any) -> ExportDocument:
    """Return the document of a model.

    Args:
        form: of an item.
        config: that the model was trained with; folders are omitted.
        code: K.
        facts: what else the document names.
    """
    inputs, outputs = tensor_facts(form, code, config.score.rank)
    return ExportDocument(
        format=FORMAT,
        version=VERSION,
        tiedae=__version__,
        kind=form.kind,
        shape=form.shape,
        source_shape=form.source_shape,
        units=_units(form),
        columns=form.columns,
        range=form.range,
        transform=form.transform,
        window=form.window,
        stride=config.data.stride,
        window_order="oldest row first" if form.window > 1 else None,
        missing="refused" if form.fill is None else "replaced by the mean of the column",
        rank=config.score.rank,
        inputs=inputs,
        outputs=outputs,
        config=without_folders(config).model_dump(mode="json"),
        **facts,
    )


def read_document(text: str, name: str) -> tuple[ExportDocument, Config]:
    """Read and validate the document of a file, and the config in it.

    Args:
        text: JSON.
        name: of the file, for messages.

    Raises:
        CheckpointError: it is damaged, or another version's.
    """
    try:
        document = ExportDocument.model_validate_json(text)
        if document.version != VERSION or document.format != FORMAT:
            raise CheckpointError(f"{name}: written by tiedae {document.tiedae[:20]}; export the model again")
        fits = document.kind in KINDS and min(document.shape) > 0 and bool(document.inputs)
        fits = fits and document.source_shape in (None, *replace(document.form(), source_shape=None).raw_shapes)
        if not fits or document.inputs[0].shape[1:] != input_shape(document.form()):
            raise CheckpointError(f"{name}: damaged: its items have an impossible form")
        return document, validate_config(document.config, name)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise CheckpointError(f"{name}: damaged: {place[:80]}: {first['msg'][:80]}") from None
    except ConfigError as error:
        raise CheckpointError(str(error)) from None
