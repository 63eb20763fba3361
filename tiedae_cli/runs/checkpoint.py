"""The checkpoint: config, form of the data, weights, what resuming needs, and what a finished training adds; used only if it is whole.

A checkpoint is a safetensors file. The weights stand under the names of the model's ``state_dict``, what else is a tensor stands under
a prefix (``optimizer.``, ``training.``, ``form.``), and the metadata hold a JSON document with everything else and a SHA-256 over that
document and all tensors. Nothing in such a file can run code or take more memory than its own size. It is validated
in this order: the file's structure, the format version, the digest, the document against its schema, the config by the rules of a YAML
file, and the weights against the model that the config describes.
"""

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import safetensors.torch
import torch
from pydantic import BaseModel, TypeAdapter, ValidationError
from safetensors import SafetensorError
from torch import Tensor

from tiedae_cli import __version__
from tiedae_cli.config import Config
from tiedae_cli.config.schema import Transform
from tiedae_cli.config.yaml_reader import validate_config
from tiedae_cli.data.columns import Columns
from tiedae_cli.data.item_set import KINDS, ItemForm, ValueRange
from tiedae_cli.errors import CheckpointError, ConfigError
from tiedae_cli.model.autoencoder import TiedAutoencoder, build_autoencoder
from tiedae_cli.runs.finished_parts import FinishedParts, PartsDocument, take_parts
from tiedae_cli.runs.training_state import STRICT, EpochReport, SplitIdentity, TrainingState
from tiedae_cli.system.files_in_use import note_input
from tiedae_cli.system.memory_limits import available_memory
from tiedae_cli.system.regular_files import open_regular
from tiedae_cli.system.storage import replacing
from tiedae_cli.system.text import shortened, shown

SUFFIX = ".safetensors"
FORMAT = "tiedae checkpoint"
VERSION = 2
LONGEST_RUN = 255  # characters of a run's name
KEY = "tiedae"  # of the metadata
LARGEST_ITEM = 1 << 40  # values of one image; more is an error
STATISTICS = ("offset", "scale", "fill")  # of the form of vectors
DTYPES = (torch.float32, torch.float64, torch.int64)


class _Form(BaseModel):
    """The form of the data in the document; statistics of vectors are tensors beside it."""

    model_config = STRICT

    shape: tuple[int, int, int]
    kind: str
    scale: float | None
    """None where the scale is a tensor."""
    columns: Columns | None = None
    range: ValueRange | None = None
    transform: Transform = "none"


class _Position(BaseModel):
    """The plain part of a ``TrainingState``."""

    model_config = STRICT

    phase: str
    epoch: int
    step: int
    seconds: float
    history: tuple[EpochReport, ...]
    initial_mse: float | None
    data: dict[str, SplitIdentity]


class _Document(BaseModel):
    """The JSON document of the metadata."""

    model_config = STRICT

    format: str
    version: int
    tiedae: str
    sha256: str
    run: str
    config: dict[str, Any]
    form: _Form
    training: _Position
    finished: PartsDocument | None


DOCUMENT = TypeAdapter(_Document)


@dataclass(frozen=True)
class Checkpoint:
    """What one file holds."""

    config: Config
    form: ItemForm
    weights: Mapping[str, Tensor]
    """The model's ``state_dict``, each tied weight once, on the CPU."""
    training: TrainingState
    run: str
    """The name of the run that wrote it."""
    finished: FinishedParts | None = None
    """What the end of a training adds to its best epoch: PCA, calibration, ranker, reference and results; None before."""

    def model(self, device: torch.device) -> TiedAutoencoder:
        """Return the trained model on a device."""
        model = build_autoencoder(self.form.shape, self.config.model)
        model.load_state_dict(self.weights)
        return model.to(device).eval()

    def contents(self) -> dict[str, int]:
        """Return the bytes of each part of the file: weights, what resuming needs, form, and the parts of a finished training."""
        sizes = {"weights": 0, "optimizer": 0, "training": 0, "form": 0, "pca": 0, "calibration": 0, "score": 0, "reference": 0}
        for name, value in self._tensors().items():
            first = name.partition(".")[0]
            sizes[first if first in sizes and name not in self.weights else "weights"] += value.nbytes
        return {name: size for name, size in sizes.items() if size}

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all.

        Raises:
            StorageError: it cannot be written; what was there before is intact.
        """
        with replacing(path) as file:
            self.write(file)

    def write(self, file: IO[bytes]) -> None:
        """Write the checkpoint to an open file.

        Raises:
            TypeError: it holds a tensor that ``load`` would not read.
        """
        tensors = self._tensors()
        position = {name: getattr(self.training, name) for name in _Position.model_fields}
        position["history"] = [asdict(report) for report in self.training.history]
        position["data"] = {name: asdict(split) for name, split in self.training.data.items()}
        document = {
            "format": FORMAT,
            "version": VERSION,
            "tiedae": __version__,
            "run": shown(self.run),  # which need not be UTF-8, as JSON is
            "config": self.config.model_dump(mode="json"),
            "form": {
                "shape": list(self.form.shape),
                "kind": self.form.kind,
                "scale": self.form.scale if isinstance(self.form.scale, float) else None,
                "columns": None if self.form.columns is None else asdict(self.form.columns),
                "range": None if self.form.range is None else asdict(self.form.range),
                "transform": self.form.transform,
            },
            "training": position,
            "finished": None if self.finished is None else self.finished.document(),
        }
        document["sha256"] = _digest(document, tensors)
        file.write(safetensors.torch.save(tensors, {KEY: json.dumps(document)}))

    def _tensors(self) -> dict[str, Tensor]:
        """Return all tensors by their names in the file, on the CPU, none sharing memory with another."""
        statistics = {f"form.{name}": getattr(self.form, name) for name in STATISTICS}
        tensors = {
            **self.weights,
            **({} if self.finished is None else self.finished.tensors()),
            **{f"optimizer.{name}": buffer for name, buffer in self.training.optimizer.items()},
            "training.errors": self.training.errors,
            **{name: torch.from_numpy(value) for name, value in statistics.items() if isinstance(value, np.ndarray)},
        }
        return {
            name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in sorted(tensors.items())
        }


def load(path: Path | str) -> Checkpoint:
    """Read and validate a checkpoint.

    Raises:
        CheckpointError: the file is missing, damaged, another tool's or from another version; one line that says which.
    """
    path = Path(path)
    document, tensors = _read(path)
    note_input(path)
    _check_version(path, document)
    try:
        unsigned = {name: value for name, value in document.items() if name != "sha256"}
        if _digest(unsigned, tensors) != document.get("sha256"):
            raise CheckpointError(f"{path}: damaged: its contents do not match their checksum")
        return _validated(path, DOCUMENT.validate_json(json.dumps(document)), tensors)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise CheckpointError(f"{path}: damaged: {place[:80]}: {first['msg'][:80]}") from None
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        raise CheckpointError(f"{path}: damaged: {_first_line(error)}") from None


def is_checkpoint(path: Path) -> bool:
    """Return whether a file is a checkpoint by its name, or by how it begins: the length of a JSON header, and the header."""
    if path.suffix.lower() == SUFFIX:
        return path.is_file()
    with contextlib.suppress(OSError), open_regular(path) as file:
        head = file.read(9)
        return head[8:] == b"{" and 8 + int.from_bytes(head[:8], "little") <= os.fstat(file.fileno()).st_size
    return False


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the document and the tensors of a file, not validated yet."""
    raw = _bytes(path)
    length = int.from_bytes(raw[:8], "little")
    try:
        header = json.loads(raw[8 : 8 + length]) if len(raw) >= 8 + length else None
    except (ValueError, RecursionError):
        header = None
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    if isinstance(metadata, dict) and {"tiedae", "part", "form"} <= metadata.keys():  # see tasks/export.py
        raise CheckpointError(
            f"{path}: exported weights (part {str(metadata['part'])[:20]}), which lack threshold, PCA and scaling of columns; use the "
            "run's best.safetensors, or its ONNX file with the part score"
        )
    if not isinstance(metadata, dict) or not isinstance(metadata.get(KEY), str):
        raise CheckpointError(f"{path}: damaged, or not a tiedae checkpoint")
    try:
        document = json.loads(metadata[KEY])
        tensors = safetensors.torch.load(raw)
    except (SafetensorError, ValueError, KeyError, RecursionError, OverflowError) as error:
        raise CheckpointError(f"{path}: damaged: {_first_line(error)}") from None
    if not isinstance(document, dict):
        raise CheckpointError(f"{path}: damaged: its metadata is not a JSON object")
    return document, tensors


def _bytes(path: Path) -> bytes:
    """Return a file's bytes; its head is asked first how long it should be, so that a hole of a terabyte is not read."""
    try:
        with open_regular(path) as file:
            size, head = os.fstat(file.fileno()).st_size, file.read(8)
            if not head:
                raise CheckpointError(f"{path}: empty file")
            length = int.from_bytes(head, "little")
            if len(head) < 8 or length < 2 or 8 + length > size:
                raise CheckpointError(f"{path}: damaged, or not a tiedae checkpoint")
            if size > available_memory():
                raise CheckpointError(f"{path}: {size / 1e9:.1f} GB, more than the memory that is free")
            return head + file.read()
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from None


def _check_version(path: Path, document: dict[str, Any]) -> None:
    if document.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a tiedae checkpoint (another tool's file?)")
    version = document.get("version")
    if not isinstance(version, int):
        raise CheckpointError(f"{path}: damaged: it has no format version")
    if version != VERSION:
        by, remedy = str(document.get("tiedae"))[:20], "upgrade tiedae" if version > VERSION else "train again"
        raise CheckpointError(f"{path}: format version {version}, written by tiedae {by}; this is {__version__}: {remedy}")


def _validated(path: Path, document: _Document, tensors: dict[str, Tensor]) -> Checkpoint:
    """Build the checkpoint from contents with a valid digest; validate them too, because a checksum is not a signature."""
    try:
        config = validate_config(document.config, str(path))
    except ConfigError as error:
        raise CheckpointError(str(error)) from None
    form = _validated_form(path, document.form, tensors)
    with torch.device("meta"):
        described = build_autoencoder(form.shape, config.model)
    finished = take_parts(document.finished, tensors, form, described.sizes[-1])
    expected = described.state_dict()
    errors = tensors.pop("training.errors", torch.zeros(0))
    optimizer = {name.removeprefix("optimizer."): tensors.pop(name) for name in list(tensors) if name.startswith("optimizer.")}
    if _kinds(tensors) != _kinds(expected):
        raise CheckpointError(f"{path}: damaged: its weights do not have the shapes that its config describes")
    if not all(bool(weight.isfinite().all()) for weight in tensors.values()):
        raise CheckpointError(f"{path}: damaged: its weights are not finite")
    if not all(bool(values.isfinite().all()) for values in (errors, *optimizer.values())):
        raise CheckpointError(f"{path}: damaged: what its optimizer remembers is not finite")
    position = {name: getattr(document.training, name) for name in _Position.model_fields}
    training = TrainingState(**position, errors=errors, optimizer=optimizer)
    return Checkpoint(config, form, tensors, training, shortened(document.run, LONGEST_RUN), finished)


def _validated_form(path: Path, form: _Form, tensors: dict[str, Tensor]) -> ItemForm:
    if min(form.shape) < 1 or math.prod(form.shape) > LARGEST_ITEM or form.kind not in KINDS:
        raise CheckpointError(f"{path}: damaged: its data has an impossible form")
    statistics = {name: tensors.pop(f"form.{name}").numpy() for name in STATISTICS if f"form.{name}" in tensors}
    offset, fill = statistics.get("offset"), statistics.get("fill")
    scale = statistics.get("scale", form.scale)
    if form.range is not None and not form.range.low < form.range.high:
        raise CheckpointError(f"{path}: damaged: the range of its data is impossible")
    if form.columns is not None and len(form.columns.values) != form.shape[2]:
        raise CheckpointError(f"{path}: damaged: its columns are not those of its data")
    for name, value in (("offset", offset), ("scale", scale), ("fill", fill)):
        if isinstance(value, np.ndarray):
            possible = value.shape == (math.prod(form.shape),) and value.dtype.kind == "f" and bool(np.isfinite(value).all())
        else:
            possible = name != "scale" or value is not None
        if not possible or (name == "scale" and not bool((np.asarray(value) > 0).all())):
            raise CheckpointError(f"{path}: damaged: the {name} of its data is impossible")
    assert scale is not None
    return ItemForm(form.shape, form.kind, offset, scale, fill, form.range, form.columns, form.transform)


def _kinds(weights: Mapping[str, Tensor]) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    return {name: (weight.dtype, tuple(weight.shape)) for name, weight in weights.items()}


def _digest(document: dict[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 over the document and all tensors' bytes, with their names, types and shapes.

    Raises:
        TypeError: a tensor is of a type that a checkpoint does not hold.
    """
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode())
    for name, value in sorted(tensors.items()):
        if value.dtype not in DTYPES:
            raise TypeError(f"a checkpoint holds no {value.dtype}")
        digest.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
        digest.update(value.contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
