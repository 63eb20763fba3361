"""Build an ONNX graph of a model; each tied weight is one tensor in the file.

Shapes: B items per batch, D values per item, K numbers per code.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from tiedae_cli import __version__
from tiedae_cli.data.item_set import ItemForm
from tiedae_cli.errors import ExportError
from tiedae_cli.model.activations import ACTIVATIONS, AnyActivation
from tiedae_cli.model.autoencoder import TiedAutoencoder
from tiedae_cli.model.layers import Layer
from tiedae_cli.model.layers.layer import Shape
from tiedae_cli.model.linear_path import LinearPath
from tiedae_cli.system.optional_packages import optional_package

Part = Literal["encoder", "decoder", "both"]
OPSET, IR_VERSION = 20, 9  # the first opset with Gelu; runtimes since the end of 2023 read it
LARGEST_ONNX = 2**31 - 2**20  # bytes; protobuf files are limited to 2 GiB


@dataclass
class _Graph:
    """An ONNX graph that is built by appending nodes."""

    onnx: Any
    last: str
    """The name of the newest value."""
    shape: Shape
    """Item shape of the newest value."""
    nodes: list[Any] = field(default_factory=list)
    constants: dict[str, Any] = field(default_factory=dict)

    def add(self, kind: str, *inputs: str, **attributes: Any) -> None:
        """Append a node; by default its input is the newest value."""
        output = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(kind, inputs or (self.last,), (output,), **attributes))
        self.last = output

    def constant(self, name: str, value: Tensor) -> str:
        """Store a tensor in the file once, however often it is used."""
        self.constants[name] = self.onnx.numpy_helper.from_array(value.detach().numpy(), name)
        return name

    def reshape(self, shape: Shape) -> None:
        """Append a reshape of the newest value if its item shape differs."""
        if shape != self.shape:
            name = "x".join(["shape", *map(str, shape)])
            self.add("Reshape", self.last, self.constant(name, torch.tensor([-1, *shape])))
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
    if sum(4 * weight.numel() for weight in model.state_dict().values()) > LARGEST_ONNX:
        raise ExportError(
            "ONNX files are limited to 2 GiB, and these weights are larger; export to a .safetensors file instead"
        )
    items, code = (model.sizes[0],), (model.sizes[-1],)
    graph = _Graph(onnx, "code", code) if part == "decoder" else _Graph(onnx, "input", items)
    if part != "decoder":
        if raw:
            _normalize(graph, form)
        _encode(graph, model)
        graph.name("code")
    if part != "encoder":
        _decode(graph, model)
        graph.reshape(items)
        if raw:
            _denormalize(graph, form)
        graph.name("reconstruction")
    units = "the data's own values" if raw else "what the model sees: (own value - offset) * scale, see the metadata's form"
    description = f"{part} of an autoencoder for {form.describe()}; input and reconstruction are {units}"
    return _serialize(graph, model, part, description, metadata)


def _encode(graph: _Graph, model: TiedAutoencoder) -> None:
    items = graph.last
    for index, layer in enumerate(model.layers):
        graph.layer(f"layers.{index}", layer, "encoder", layer.activation)
    if model.path is not None:
        graph.gated_sum(model.path, items, "encoder")
    graph.reshape((model.sizes[-1],))
    if model.code_top_k is not None:
        graph.keep_largest(model.code_top_k)


def _decode(graph: _Graph, model: TiedAutoencoder) -> None:
    code = graph.last
    for index, layer in reversed(list(enumerate(model.layers))):
        graph.layer(f"layers.{index}", layer, "decoder", layer.decoder_activation)
    if model.path is not None:
        graph.gated_sum(model.path, code, "decoder")
        graph.activate(model.path.output)


def _normalize(graph: _Graph, form: ItemForm) -> None:
    if form.zero is not None:
        graph.add("Sub", graph.last, graph.constant("offset", torch.as_tensor(form.zero, dtype=torch.float32)))
    graph.add("Mul", graph.last, graph.constant("scale", torch.as_tensor(form.scale, dtype=torch.float32)))


def _denormalize(graph: _Graph, form: ItemForm) -> None:
    graph.add("Mul", graph.last, graph.constant("inverse_scale", 1 / torch.as_tensor(form.scale, dtype=torch.float32)))
    if form.zero is not None:
        graph.add("Add", graph.last, graph.constant("offset", torch.as_tensor(form.zero, dtype=torch.float32)))


def _serialize(graph: _Graph, model: TiedAutoencoder, part: Part, description: str, metadata: dict[str, str]) -> bytes:
    onnx, helper = graph.onnx, graph.onnx.helper
    sizes = {"input": model.sizes[0], "code": model.sizes[-1], "reconstruction": model.sizes[0]}
    values = {
        name: helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", size]) for name, size in sizes.items()
    }
    inputs, outputs = interface(part)
    whole = helper.make_graph(
        graph.nodes, "tiedae", [values[inputs]], [values[name] for name in outputs], list(graph.constants.values())
    )
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
