"""Build an ONNX graph of a model; each tied weight is one tensor in the file.

Shapes: B items per batch, D values per item, K numbers per code.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from tiedae_cli import __version__
from tiedae_cli.data.item_set import PER_10K, ItemForm
from tiedae_cli.errors import ExportError
from tiedae_cli.model.activations import ACTIVATIONS, AnyActivation
from tiedae_cli.model.autoencoder import TiedAutoencoder
from tiedae_cli.model.layers import Layer
from tiedae_cli.model.layers.layer import Shape
from tiedae_cli.model.linear_path import LinearPath
from tiedae_cli.system.optional_packages import optional_package

Part = Literal["encoder", "decoder", "both"]  # of the network alone; the part "score" is that of scoring/onnx_score.py
OPSET, IR_VERSION = 20, 9  # the first opset with Gelu; runtimes since the end of 2023 read it
LARGEST_ONNX = 2**31 - 2**20  # bytes; protobuf files are limited to 2 GiB


@dataclass
class OnnxGraph:
    """An ONNX graph that is built by appending nodes."""

    onnx: Any
    last: str
    """The name of the newest value."""
    shape: Shape
    """Item shape of the newest value."""
    nodes: list[Any] = field(default_factory=list)
    constants: dict[str, Any] = field(default_factory=dict)
    _squares: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Append a node and return the name of its output; by default its input is the newest value."""
        output = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(kind, inputs or (self.last,), (output,), **attributes))
        self.last = output
        return output

    def constant(self, name: str, value: Tensor | np.ndarray) -> str:
        """Store a tensor in the file once, however often it is used."""
        array = value.detach().numpy() if isinstance(value, Tensor) else value
        self.constants[name] = self.onnx.numpy_helper.from_array(array, name)
        return name

    def cast(self, value: str, kind: Literal["FLOAT", "DOUBLE"]) -> str:
        """Append a cast to float32 or float64; return its name."""
        return self.add("Cast", value, to=getattr(self.onnx.TensorProto, kind))

    def reduced(self, kind: str, value: str, *, keepdims: bool = False) -> str:
        """Append a reduction over all but the batch, (B, D) -> (B,), or (B, 1) with ``keepdims``; return its name."""
        return self.add(kind, value, self.constant("axis_1", np.array([1])), keepdims=int(keepdims))

    def squares(self, x: str, reconstruction: str) -> str:
        """Append the squared residuals in float64, (B, D) and (B, D) float32 -> (B, D); return their name."""
        if (x, reconstruction) not in self._squares:
            residual = self.cast(self.add("Sub", reconstruction, x), "DOUBLE")
            self._squares[x, reconstruction] = self.add("Mul", residual, residual)
        return self._squares[x, reconstruction]

    def reshaped(self, value: str, shape: Shape) -> str:
        """Append a reshape of each item of a value; return its name."""
        name = "x".join(["shape", *map(str, shape)])
        return self.add("Reshape", value, self.constant(name, np.array([-1, *shape])))

    def top(self, value: str, count: int, places: str) -> str:
        """Append the ``count`` smallest numbers of each item, (B, N) -> (B, count); return their name.

        Args:
            value: name of the numbers.
            count: how many.
            places: name for their positions, (B, count) int64.
        """
        output, number = f"smallest_{len(self.nodes)}", self.constant(f"count_{count}", np.array([count]))
        self.nodes.append(self.onnx.helper.make_node("TopK", (value, number), (output, places), largest=0))
        return output

    def reshape(self, shape: Shape) -> None:
        """Append a reshape of the newest value if its item shape differs."""
        if shape != self.shape:
            self.reshaped(self.last, shape)
            self.shape = shape

    def layer(self, prefix: str, layer: Layer, part: str, activation: AnyActivation) -> None:
        """Append one half of a layer; a tied weight is the same constant in both."""
        before, after = (
            (layer.input_shape, layer.output_shape) if part == "encoder" else (layer.output_shape, layer.input_shape)
        )
        self.reshape(before)
        names = layer.names(part)
        constants = [self.constant(f"{prefix}.{name}", layer.get_parameter(name)) for name in names]
        kind, attributes = layer.operator(part)
        self.add(kind, self.last, *constants, **attributes)
        self.shape = after
        self.activate(activation)

    def activate(self, activation: AnyActivation) -> None:
        """Append the operators of an activation."""
        preactivation = self.last
        for kind, values in ACTIVATIONS[activation].onnx:
            inputs: tuple[str, ...] = (preactivation, self.last) if kind == "Mul" else (self.last,)
            if kind == "Clip":  # takes its bounds as inputs
                inputs = (
                    self.last,
                    self.constant("clip_low", torch.tensor(0.0)),
                    self.constant("clip_high", torch.tensor(1.0)),
                )
            self.add(kind, *inputs, **values)

    def gated_sum(self, path: LinearPath, source: str, part: str) -> None:
        """Append the linear path of ``source``, and add the newest value, the network's, through the gate of ``part``."""
        gate = "code_gate" if part == "encoder" else "output_gate"
        self.reshape((path.get_parameter(gate).numel(),))
        self.add("Mul", self.last, self.constant(f"path.{gate}", path.get_parameter(gate)))
        network, shape = self.last, self.shape
        self.last, self.shape = source, path.layer.input_shape if part == "encoder" else path.layer.output_shape
        self.layer("path.layer", path.layer, part, "linear")
        self.add("Add", self.last, network)
        self.shape = shape

    def keep_largest(self, count: int) -> None:
        """Append nodes that set all but the ``count`` largest numbers of each item to 0."""
        rows = self.last
        self.add("Shape")
        self.add("ConstantOfShape")  # zeros
        zeros, number = self.last, self.constant("code_top_k", torch.tensor([count]))
        self.nodes.append(self.onnx.helper.make_node("TopK", (rows, number), ("largest", "places")))
        self.add("ScatterElements", zeros, "places", "largest", axis=1)

    def name(self, name: str) -> None:
        """Give the newest value its public name."""
        self.nodes[-1].output[0] = self.last = name


def build_onnx(model: TiedAutoencoder, form: ItemForm, part: Part, raw: bool, metadata: dict[str, str]) -> bytes:
    """Return an ONNX file: (B, D) ``input`` -> (B, K) ``code`` -> (B, D) ``reconstruction``, or one half of it; B is free.

    Each tied weight is one tensor in the file.

    Args:
        model: on the CPU.
        form: form of an item.
        part: encoder, decoder or both.
        raw: whether input and reconstruction are raw values (0 to 255 for 8-bit images) instead of scaled ones.
        metadata: key-value pairs to store in the file.

    Raises:
        InputError: The package is not installed.
        ExportError: The file would exceed 2 GiB, the limit of the format.
    """
    onnx = optional_package("onnx", "onnx", "writing ONNX")
    refuse_beyond_limit(model.state_dict().values())
    items, code = (model.sizes[0],), (model.sizes[-1],)
    graph = OnnxGraph(onnx, "code", code) if part == "decoder" else OnnxGraph(onnx, "input", items)
    if part != "decoder":
        if raw:
            _normalize(graph, form)
        append_encoder(graph, model)
        graph.name("code")
    if part != "encoder":
        append_decoder(graph, model)
        graph.reshape(items)
        if raw:
            _denormalize(graph, form)
        graph.name("reconstruction")
    units = "the data's own values" if raw else "what the model sees: (own value - offset) * scale, see the metadata's form"
    description = f"{part} of an autoencoder for {form.describe()}; input and reconstruction are {units}"
    return _serialize(graph, model, part, description, metadata)


def append_encoder(graph: OnnxGraph, model: TiedAutoencoder) -> None:
    """Append the encoder: the newest value, (B, D) float32, becomes the code, (B, K)."""
    items = graph.last
    for index, layer in enumerate(model.layers):
        graph.layer(f"layers.{index}", layer, "encoder", layer.activation)
    if model.path is not None:
        graph.gated_sum(model.path, items, "encoder")
    graph.reshape((model.sizes[-1],))
    if model.code_top_k is not None:
        graph.keep_largest(model.code_top_k)


def append_decoder(graph: OnnxGraph, model: TiedAutoencoder) -> None:
    """Append the decoder: the newest value, a code, (B, K), becomes the reconstruction."""
    code = graph.last
    for index, layer in reversed(list(enumerate(model.layers))):
        graph.layer(f"layers.{index}", layer, "decoder", layer.decoder_activation)
    if model.path is not None:
        graph.gated_sum(model.path, code, "decoder")
        graph.activate(model.path.output)


def append_transform(graph: OnnxGraph, value: str, form: ItemForm, dtype: type[np.floating[Any]]) -> str:
    """Append the transform of ``data.transform``, (B, D) -> (B, D), and return the name of its result.

    Args:
        graph: to append to.
        value: name of the data's own values.
        form: of an item.
        dtype: of the values.
    """
    if form.transform == "none":
        return value
    if form.transform == "log1p_per_10k":
        rows = graph.reshaped(value, (form.shape[2],)) if form.window > 1 else value
        there = rows
        if form.fill is not None:  # a missing value counts as 0
            there = graph.add("Where", graph.add("IsNaN", rows), graph.constant("nothing", np.array(0, dtype)), rows)
        total = graph.reduced("ReduceSum", there, keepdims=True)
        total = graph.add("Max", total, graph.constant("smallest_total", np.array(1e-30, dtype)))
        rows = graph.add("Mul", graph.add("Div", rows, total), graph.constant("per_10k", np.array(PER_10K, dtype)))
        value = graph.reshaped(rows, (form.values_per_item,)) if form.window > 1 else rows
    return graph.add("Log", graph.add("Add", value, graph.constant("one", np.array(1, dtype))))


def append_inverse(graph: OnnxGraph, value: str, form: ItemForm, dtype: type[np.floating[Any]]) -> str:
    """Append what undoes the logarithm of ``data.transform``; arguments as of ``append_transform``."""
    if form.transform == "none":
        return value
    return graph.add("Sub", graph.add("Exp", value), graph.constant("one", np.array(1, dtype)))


def _normalize(graph: OnnxGraph, form: ItemForm) -> None:
    graph.last = append_transform(graph, graph.last, form, np.float32)
    if form.offset is not None:
        graph.add("Sub", graph.last, graph.constant("offset", torch.as_tensor(form.offset, dtype=torch.float32)))
    graph.add("Mul", graph.last, graph.constant("scale", torch.as_tensor(form.scale, dtype=torch.float32)))


def _denormalize(graph: OnnxGraph, form: ItemForm) -> None:
    graph.add("Mul", graph.last, graph.constant("inverse_scale", 1 / torch.as_tensor(form.scale, dtype=torch.float32)))
    if form.offset is not None:
        graph.add("Add", graph.last, graph.constant("offset", torch.as_tensor(form.offset, dtype=torch.float32)))
    graph.last = append_inverse(graph, graph.last, form, np.float32)


def refuse_beyond_limit(tensors: Iterable[Tensor]) -> None:
    """Raise ``ExportError`` if tensors exceed the limit of the format."""
    if sum(tensor.nbytes for tensor in tensors) > LARGEST_ONNX:
        raise ExportError(
            "ONNX files are limited to 2 GiB, and these weights are larger; export to a .safetensors file instead"
        )


def _serialize(graph: OnnxGraph, model: TiedAutoencoder, part: Part, description: str, metadata: dict[str, str]) -> bytes:
    make_value, kind = graph.onnx.helper.make_tensor_value_info, graph.onnx.TensorProto.FLOAT
    sizes = {"input": model.sizes[0], "code": model.sizes[-1], "reconstruction": model.sizes[0]}
    values = {name: make_value(name, kind, ["batch", size]) for name, size in sizes.items()}
    inputs, outputs = interface(part)
    return serialize(graph, [values[inputs]], [values[name] for name in outputs], description, metadata)


def serialize(
    graph: OnnxGraph, inputs: Sequence[Any], outputs: Sequence[Any], description: str, metadata: dict[str, str]
) -> bytes:
    """Return a graph as a checked ONNX file.

    Args:
        graph: its nodes and constants.
        inputs: value infos; one that has the name of a constant is optional.
        outputs: value infos.
        description: for people.
        metadata: key-value pairs to store in the file.
    """
    onnx, helper = graph.onnx, graph.onnx.helper
    whole = helper.make_graph(graph.nodes, "tiedae", inputs, outputs, list(graph.constants.values()))
    content = helper.make_model(
        whole,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="tiedae",
        producer_version=__version__,
        doc_string=description,
    )
    helper.set_model_props(content, metadata)
    onnx.checker.check_model(content, full_check=True)
    return bytes(content.SerializeToString())


def interface(part: Part) -> tuple[str, tuple[str, ...]]:
    """Return the names of the input and the outputs of a part."""
    return {
        "encoder": ("input", ("code",)),
        "decoder": ("code", ("reconstruction",)),
        "both": ("input", ("reconstruction", "code")),
    }[part]
