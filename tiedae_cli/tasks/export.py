"""A trained model in the formats of others: ONNX, checked against onnxruntime, and safetensors.

Shapes: B items a batch, D values an item, K numbers of a code.
"""

import json
import logging
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from tiedae_cli import __version__
from tiedae_cli.config import Activation
from tiedae_cli.data.item_set import ItemForm, ItemSet
from tiedae_cli.errors import DataError, ExportError
from tiedae_cli.model.activations import ACTIVATIONS
from tiedae_cli.model.autoencoder import TiedAutoencoder
from tiedae_cli.model.layers import Layer
from tiedae_cli.model.layers.layer import Shape
from tiedae_cli.runs.checkpoint import Checkpoint
from tiedae_cli.runs.trained_run import OpenRun
from tiedae_cli.system.optional_packages import optional_package

log = logging.getLogger(__name__)

Part = Literal["encoder", "decoder", "both"]
OPSET, IR_VERSION = 20, 9  # the first opset with Gelu; runtimes since the end of 2023 read it
LARGEST_ONNX = 2**31 - 2**20  # bytes: a protobuf file ends at 2 GiB
CHECKED_SIZES = (1, 2, 7, 64)  # items of the batches that are compared
TOLERANCE = 1e-4  # of the largest answer (at least 1): float32 sums in another order differ by far less


def metadata(trained: Checkpoint, part: Part) -> dict[str, str]:
    """Return what travels in either format: config and form of the data as JSON, and where the file comes from."""
    form: dict[str, Any] = {"shape": trained.form.shape, "kind": trained.form.kind, "offset": None, "scale": trained.form.scale}
    if trained.form.offset is not None:
        form["offset"] = trained.form.offset.tolist()
    if isinstance(trained.form.scale, np.ndarray):
        form["scale"] = trained.form.scale.tolist()
    return {
        "config": json.dumps(trained.config.model_dump(mode="json")),
        "form": json.dumps(form),
        "part": part,
        "run": trained.run,
        "tiedae": __version__,
    }


def safetensors_file(trained: Checkpoint, part: Part) -> bytes:
    """Return a safetensors file of the weights under the names of ``TiedAutoencoder.state_dict``, each tied weight once.

    The metadata hold ``config`` and ``form`` as JSON: see ``metadata``.
    """
    import safetensors.torch

    parts = ("encoder", "decoder") if part == "both" else (part,)
    layers = enumerate(trained.model(torch.device("cpu")).layers)
    names = {f"layers.{i}.{name}" for i, layer in layers for half in parts for name in layer.names(half)}
    tensors = {name: trained.weights[name].contiguous() for name in sorted(names)}
    return safetensors.torch.save(tensors, metadata(trained, part))


@dataclass
class _Graph:
    """An ONNX graph that grows by a node at a time at its end."""

    onnx: Any
    last: str
    """The name of the newest value."""
    shape: Shape
    """Of an item of the newest value."""
    nodes: list[Any] = field(default_factory=list)
    constants: dict[str, Any] = field(default_factory=dict)

    def add(self, kind: str, *inputs: str, **attributes: Any) -> None:
        """Append a node; without inputs it takes the newest value."""
        output = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(kind, inputs or (self.last,), (output,), **attributes))
        self.last = output

    def constant(self, name: str, value: Tensor) -> str:
        """Keep a tensor in the file, once, however often it is used."""
        self.constants[name] = self.onnx.numpy_helper.from_array(value.detach().numpy(), name)
        return name

    def reshape(self, shape: Shape) -> None:
        """Append what gives the items of the newest value another shape, if it is another."""
        if shape != self.shape:
            name = "x".join(["shape", *map(str, shape)])
            self.add("Reshape", self.last, self.constant(name, torch.tensor([-1, *shape])))
            self.shape = shape

    def layer(self, index: int, layer: Layer, part: str, activation: Activation) -> None:
        """Append one half of a layer; a tied weight is the same constant in both."""
        before, after = (
            (layer.input_shape, layer.output_shape) if part == "encoder" else (layer.output_shape, layer.input_shape)
        )
        self.reshape(before)
        names = layer.names(part)
        constants = [self.constant(f"layers.{index}.{name}", layer.get_parameter(name)) for name in names]
        kind, attributes = layer.operator(part)
        self.add(kind, self.last, *constants, **attributes)
        self.shape = after
        preactivation = self.last
        for kind, values in ACTIVATIONS[activation].onnx:
            inputs = (preactivation, self.last) if kind == "Mul" else (self.last,)
            self.add(kind, *inputs, **values)

    def keep_largest(self, count: int) -> None:
        """Append what sets all but the largest numbers of each item to zero."""
        rows = self.last
        self.add("Shape")
        self.add("ConstantOfShape")  # zeros
        zeros, number = self.last, self.constant("code_top_k", torch.tensor([count]))
        self.nodes.append(self.onnx.helper.make_node("TopK", (rows, number), ("largest", "places")))
        self.add("ScatterElements", zeros, "places", "largest", axis=1)

    def name(self, name: str) -> None:
        """Give the newest value its public name."""
        self.nodes[-1].output[0] = self.last = name


def onnx_file(trained: Checkpoint, part: Part, raw: bool) -> bytes:
    """Return an ONNX file: (B, D) ``input`` -> (B, K) ``code`` -> (B, D) ``reconstruction``, or one half of it; B is free.

    Each tied weight is one tensor in the file.

    Args:
        trained: the model.
        part: which half.
        raw: input and reconstruction are in the data's own values (0 to 255 for 8-bit images), not in what the model sees.

    Raises:
        InputError: the package is not installed.
        ExportError: the file would be larger than 2 GiB, where the format ends.
    """
    onnx = optional_package("onnx", "onnx")
    if sum(4 * weight.numel() for weight in trained.weights.values()) > LARGEST_ONNX:
        raise ExportError("an ONNX file ends at 2 GiB, and these weights are larger; a .safetensors file takes them")
    model = trained.model(torch.device("cpu"))
    items, code = (model.sizes[0],), (model.sizes[-1],)
    graph = _Graph(onnx, "code", code) if part == "decoder" else _Graph(onnx, "input", items)
    if part != "decoder":
        if raw:
            _normalise(graph, trained.form)
        _encode(graph, model)
        graph.name("code")
    if part != "encoder":
        _decode(graph, model)
        graph.reshape(items)
        if raw:
            _denormalise(graph, trained.form)
        graph.name("reconstruction")
    return _serialise(graph, trained, model, part, raw)


def _encode(graph: _Graph, model: TiedAutoencoder) -> None:
    for index, layer in enumerate(model.layers):
        graph.layer(index, layer, "encoder", layer.activation)
    graph.reshape((model.sizes[-1],))
    if model.code_top_k is not None:
        graph.keep_largest(model.code_top_k)


def _decode(graph: _Graph, model: TiedAutoencoder) -> None:
    for index, layer in reversed(list(enumerate(model.layers))):
        graph.layer(index, layer, "decoder", layer.decoder_activation)


def _normalise(graph: _Graph, form: ItemForm) -> None:
    if form.offset is not None:
        graph.add("Sub", graph.last, graph.constant("offset", torch.as_tensor(form.offset, dtype=torch.float32)))
    graph.add("Mul", graph.last, graph.constant("scale", torch.as_tensor(form.scale, dtype=torch.float32)))


def _denormalise(graph: _Graph, form: ItemForm) -> None:
    graph.add("Mul", graph.last, graph.constant("inverse_scale", 1 / torch.as_tensor(form.scale, dtype=torch.float32)))
    if form.offset is not None:
        graph.add("Add", graph.last, graph.constant("offset", torch.as_tensor(form.offset, dtype=torch.float32)))


def _serialise(graph: _Graph, trained: Checkpoint, model: TiedAutoencoder, part: Part, raw: bool) -> bytes:
    onnx, helper = graph.onnx, graph.onnx.helper
    sizes = {"input": model.sizes[0], "code": model.sizes[-1], "reconstruction": model.sizes[0]}
    values = {
        name: helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", size]) for name, size in sizes.items()
    }
    inputs, outputs = interface(part)
    whole = helper.make_graph(
        graph.nodes, "tiedae", [values[inputs]], [values[name] for name in outputs], list(graph.constants.values())
    )
    units = "the data's own values" if raw else "what the model sees: (own value - offset) * scale, see the metadata's form"
    content = helper.make_model(
        whole,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="tiedae",
        producer_version=__version__,
        doc_string=f"{part} of an autoencoder for {trained.form.describe()}; input and reconstruction are {units}",
    )
    helper.set_model_props(content, metadata(trained, part))
    onnx.checker.check_model(content, full_check=True)
    return bytes(content.SerializeToString())


def interface(part: Part) -> tuple[str, tuple[str, ...]]:
    """Return the names of the input and of the outputs of a part."""
    return {
        "encoder": ("input", ("code",)),
        "decoder": ("code", ("reconstruction",)),
        "both": ("input", ("reconstruction", "code")),
    }[part]


def check_onnx(content: bytes, trained: Checkpoint, part: Part, raw: bool, images: ItemSet | None) -> tuple[float, int]:
    """Compare what onnxruntime answers with what the model answers, on batches of several sizes.

    Args:
        content: the ONNX file.
        trained: the model that it was made of.
        part: as it was made.
        raw: as it was made.
        images: real items; random ones are compared in any case.

    Returns:
        The largest difference, and the items compared.

    Raises:
        InputError: onnxruntime is not installed.
        ExportError: the answers differ.
    """
    runtime = optional_package("onnxruntime", "onnx")
    runtime.set_default_logger_severity(3)
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    source, names = interface(part)
    largest, items = 0.0, 0
    for batch in _batches(trained.form, images):
        values = _values(trained, batch, raw)
        answers = session.run(list(names), {source: values[source]})
        for name, answer in zip(names, answers, strict=True):
            difference = float(np.abs(answer - values[name]).max())
            if not difference <= TOLERANCE * max(1.0, float(np.abs(values[name]).max())):
                raise ExportError(f"onnxruntime's {name} differs from the model's by {difference:g}: nothing was written")
            largest = max(largest, difference)
        items += len(batch)
    return largest, items


def _batches(form: ItemForm, images: ItemSet | None) -> list[Tensor]:
    """Return random and real items in batches of the sizes to check, each (B, D) as the model sees them."""
    generator = torch.Generator().manual_seed(0)
    draw = torch.rand if form.kind == "images" else torch.randn
    batches = [draw(size, form.values_per_item, generator=generator) for size in CHECKED_SIZES]
    if images is not None:
        batches += [torch.from_numpy(images.batch(0, size)) for size in CHECKED_SIZES]
    return batches


@torch.inference_mode()
def _values(trained: Checkpoint, x: Tensor, raw: bool) -> dict[str, np.ndarray]:
    """Return what goes in and out of the model for a batch as it sees it, (B, D); in the data's own values where raw."""
    model = trained.model(torch.device("cpu"))
    own = trained.form.denormalize(x.numpy())
    if raw:
        x = torch.from_numpy(trained.form.normalize(own))
    code = model.encode(x)
    reconstruction = model.decode(code).numpy()
    if raw:
        reconstruction = trained.form.denormalize(reconstruction)
    return {"input": own if raw else x.numpy(), "code": code.numpy(), "reconstruction": reconstruction}


def export_run(run: OpenRun, kind: str, part: Part, raw: bool) -> tuple[bytes, float | None]:
    """Return a model as a file of another format and, of ONNX, the largest difference between its answers and the model's.

    Args:
        run: the model.
        kind: onnx or safetensors.
        part: which half.
        raw: as in ``onnx_file``.

    Raises:
        InputError: a package is not installed.
        ExportError: the answers differ, or the format cannot hold the model.
    """
    if kind == "safetensors":
        return safetensors_file(run.trained, part), None
    content = onnx_file(run.trained, part, raw)
    difference, items = check_onnx(content, run.trained, part, raw, _real_images(run))
    log.info(f"onnxruntime answers as the model does on {items} items: largest difference {difference:.1e}")
    return content, difference


def _real_images(run: OpenRun) -> ItemSet | None:
    """Return test images to check with; without the data random values have to do."""
    try:
        return run.split("test")
    except DataError as error:
        log.warning(f"checked with random values only, for the data is not there: {error}")
        return None
