"""An exported ONNX file: found by its name or its first bytes, validated, and computed by onnxruntime.

Shapes: B items per block, D values per item, K numbers per code.
"""

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tiedae_cli.data.item_reader import ItemReader
from tiedae_cli.data.item_rules import ItemRules
from tiedae_cli.data.item_set import ItemForm
from tiedae_cli.data.sources.part import Bad, stop
from tiedae_cli.errors import CheckpointError, DataError, InputError
from tiedae_cli.runs.export_document import KEY, as_input, from_input, read_document
from tiedae_cli.system.files_in_use import note_input
from tiedae_cli.system.memory_limits import available_memory
from tiedae_cli.system.onnx_runtime import onnx_runtime, onnx_session
from tiedae_cli.system.optional_packages import optional_package
from tiedae_cli.system.portability import quoted
from tiedae_cli.system.regular_files import open_regular

BLOCK_VALUES, LEAST_WIDTH = 1 << 21, 512  # values of a block, as the program computes them
NEIGHBOURS_BLOCK = 256  # items of a block that are compared with training items
WHOLE = 1e-3  # how far 255 times a pixel may lie from a whole number


class ExportedModel:
    """An exported file with the part ``score``.

    Args:
        name: its path.

    Raises:
        InputError: onnxruntime is not installed, or the file holds another part.
        CheckpointError: the file is missing, damaged or another tool's.
    """

    def __init__(self, name: str) -> None:
        self.path = Path(name)
        self._content = _bytes(self.path)
        self._runtime = onnx_runtime("using an exported file")
        self._session = self._opened(self._content)
        note_input(self.path)
        metadata: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map
        if KEY not in metadata:
            part = metadata.get("part")
            if part is None:
                raise CheckpointError(f"{name}: not a model that tiedae exported")
            raise InputError(
                f"{name}: holds the part {part}, which gives no score; type: tiedae export MODEL --part score -o {quoted(name)}"
            )
        self.document, self.config = read_document(metadata[KEY], name)
        self.form = self.document.form()
        self._check_interface()

    def _opened(self, content: bytes) -> Any:
        try:
            return onnx_session(self._runtime, content)
        except Exception as error:  # onnxruntime has no public class for its errors
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
            raise CheckpointError(f"{self.path}: damaged, or not an ONNX file: {reason}") from None

    def _check_interface(self) -> None:
        """Raise ``CheckpointError`` if the graph does not take and give what its document says."""
        given = {one.name: list(one.shape) for one in (*self._session.get_inputs(), *self._session.get_outputs())}
        told = {one.name: list(one.shape) for one in (self.document.inputs[0], *self.document.outputs)}
        if given != told:
            raise CheckpointError(f"{self.path}: damaged: its graph is not the one that its metadata describe")

    @property
    def code_size(self) -> int:
        """K."""
        (code,) = (one for one in self.document.outputs if one.name == "code")
        return int(code.shape[1])

    @property
    def ranks_by_error(self) -> bool:
        """Whether the score is the squared error."""
        return self.document.rank == "squared_error"

    @property
    def block_size(self) -> int:
        """How many items to compute at once."""
        size = max(1, BLOCK_VALUES // max(self.form.values_per_item, LEAST_WIDTH))
        return min(size, NEIGHBOURS_BLOCK) if self.document.training_items_inside else size

    def reader(self, bad: Bad = stop, finds_id: bool = False, key: str | None = None) -> "RawReader":
        """Return a reader of inputs in the data's own units. Arguments as of ``ItemReader``."""
        return RawReader(self.form, self.block_size, bad, data=self.config.data, finds_id=finds_id, id=key)

    def answers(self, raw: np.ndarray, *names: str) -> list[np.ndarray]:
        """Return outputs of the graph for raw values, (B, D); only what they need is computed."""
        options = self._runtime.RunOptions()
        options.only_execute_path_to_fetches = True
        found: list[np.ndarray] = self._session.run(list(names), {"input": as_input(raw, self.form)}, options)
        return found

    def seen(self, values: np.ndarray) -> np.ndarray:
        """Return what the graph gives in the shape of its input as (B, D); pixels from 0 to 1."""
        flat, limits = from_input(values, self.form), self.form.range
        if self.form.eight_bit:
            return flat * np.float32(1 / 255)
        return flat if limits is None else (flat - np.float32(limits.low)) / np.float32(limits.high - limits.low)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Return what codes, (B, K), stand for as the graph gives it."""
        (made,) = self._decoder.run(["reconstruction"], {"code": codes})
        found: np.ndarray = made
        return found

    @cached_property
    def _decoder(self) -> Any:
        """The half of the graph behind the code."""
        onnx = optional_package("onnx", "onnx", "decoding with an exported file")
        model = onnx.load_from_string(self._content)
        model.graph.value_info.extend(
            output for output in model.graph.output if output.name == "code"
        )  # old versions look here
        half = optional_package("onnx.utils", "onnx").Extractor(model).extract_model(["code"], ["reconstruction"])
        return self._opened(half.SerializeToString())


class RawReader(ItemReader):
    """Reads inputs in the data's own units, because the graph scales them itself."""

    def _seen(self, rules: ItemRules, values: np.ndarray) -> np.ndarray:
        form = self.form
        if form.kind == "vectors":
            if self._data.transform != "none" and bool((values < 0).any()):
                raise DataError(f"{rules.name}: values below 0; data.transform: {self._data.transform} takes 0 and above")
            return values.astype(np.float64)
        if form.eight_bit:
            return values if values.dtype == np.uint8 else _as_bytes(values, rules)
        pixels = rules.form.normalize(values)
        if form.range is None:
            return pixels
        return pixels * np.float32(form.range.high - form.range.low) + np.float32(form.range.low)


def _as_bytes(values: np.ndarray, rules: ItemRules) -> np.ndarray:
    levels = rules.form.normalize(values) * np.float32(255)
    whole = np.rint(levels)
    if not bool((np.abs(levels - whole) <= WHOLE).all()):
        raise DataError(
            f"{rules.name}: pixels between the 256 levels of bytes, which the exported graph takes; score it with the checkpoint"
        )
    return whole.astype(np.uint8)


def _bytes(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > available_memory():
                raise CheckpointError(f"{path}: {size / 1e9:.1f} GB, more than the memory that is free")
            return file.read()
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from None


def refuse_without_data(model: ExportedModel, inputs: Sequence[str], command: str) -> None:
    """Raise ``InputError`` if no DATA is named: an exported file does not know the data of its training."""
    if not inputs:
        raise InputError(
            f"{model.path}: an exported file names no data of its own; type: tiedae {command} {quoted(str(model.path))} DATA"
        )


def form_of_codes(size: int) -> ItemForm:
    """Return the form of codes of K numbers."""
    return ItemForm((1, 1, size), "vectors")
