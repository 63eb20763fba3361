"""A trained model in the formats of others: ONNX, checked against onnxruntime, and safetensors.

Shapes: B items a batch, D values an item, K numbers of a code.
"""

import json
import logging
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tiedae_cli import __version__
from tiedae_cli.config.shareable import without_folders
from tiedae_cli.data.item_set import ItemForm, ItemSet
from tiedae_cli.errors import DataError, ExportError
from tiedae_cli.model.onnx_graph import Part, build_onnx, interface
from tiedae_cli.runs.checkpoint import Checkpoint
from tiedae_cli.runs.trained_run import OpenRun
from tiedae_cli.system.optional_packages import optional_package

log = logging.getLogger(__name__)

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
        "config": json.dumps(without_folders(trained.config).model_dump(mode="json")),
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


def onnx_file(trained: Checkpoint, part: Part, raw: bool) -> bytes:
    """Return a checkpoint's model as an ONNX file: see ``build_onnx``."""
    return build_onnx(trained.model(torch.device("cpu")), trained.form, part, raw, metadata(trained, part))


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
    runtime = optional_package("onnxruntime", "onnx", "checking ONNX")
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
