"""The ``export`` command: a trained model as ONNX, checked with onnxruntime, or as safetensors.

Shapes: B items per batch, D values per item, codes of size K.
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
from tiedae_cli.scoring.onnx_proof import Proof, prove
from tiedae_cli.scoring.onnx_score import JudgedBy, build_score_onnx, score_document
from tiedae_cli.scoring.scorer import Scorer
from tiedae_cli.system.onnx_runtime import onnx_runtime, onnx_session

log = logging.getLogger(__name__)

CHECKED_SIZES = (1, 2, 7, 64)  # sizes of the batches that are compared
TOLERANCE = 1e-4  # relative to the largest output (at least 1); rounding differs by far less


def metadata(trained: Checkpoint, part: Part) -> dict[str, str]:
    """Return the metadata of both formats: config and form of the data as JSON, run name, part and version."""
    form: dict[str, Any] = {
        "shape": trained.form.shape,
        "kind": trained.form.kind,
        "offset": None,
        "scale": trained.form.scale,
        "transform": trained.form.transform,
    }
    if trained.form.zero is not None:
        form["offset"] = trained.form.zero.tolist()
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
    """Return a safetensors file of the weights, named as in ``TiedAutoencoder.state_dict``, each tied weight once.

    The metadata contains ``config`` and ``form`` as JSON: see ``metadata``.
    """
    import safetensors.torch

    parts = ("encoder", "decoder") if part == "both" else (part,)
    model = trained.model(torch.device("cpu"))
    layers = enumerate(model.layers)
    names = {f"layers.{i}.{name}" for i, layer in layers for half in parts for name in layer.names(half)}
    names |= {name for half in parts for name in model.path_names(half)}
    tensors = {name: trained.weights[name].contiguous() for name in sorted(names)}
    return safetensors.torch.save(tensors, metadata(trained, part))


def onnx_file(trained: Checkpoint, part: Part, raw: bool) -> bytes:
    """Return a checkpoint's model as an ONNX file: see ``build_onnx``."""
    return build_onnx(trained.model(torch.device("cpu")), trained.form, part, raw, metadata(trained, part))


def check_onnx(content: bytes, trained: Checkpoint, part: Part, raw: bool, real_items: ItemSet | None) -> tuple[float, int]:
    """Compare the outputs of onnxruntime with the model's, on batches of several sizes.

    Args:
        content: the ONNX file.
        trained: the exported model.
        part: the exported part.
        raw: whether the file takes raw values.
        real_items: items of the test split; random ones are always compared.

    Returns:
        The largest difference, and the number of items compared.

    Raises:
        InputError: onnxruntime is not installed.
        ExportError: the outputs differ.
    """
    session = onnx_session(onnx_runtime("checking the ONNX file"), content)
    source, names = interface(part)
    largest, items = 0.0, 0
    for batch in _batches(trained.form, real_items):
        values = _values(trained, batch, raw)
        answers = session.run(list(names), {source: values[source]})
        for name, answer in zip(names, answers, strict=True):
            difference = float(np.abs(answer - values[name]).max())
            if not difference <= TOLERANCE * max(1.0, float(np.abs(values[name]).max())):
                raise ExportError(f"onnxruntime's {name} differs from the model's by {difference:g}; no file was written")
            largest = max(largest, difference)
        items += len(batch)
    return largest, items


def _batches(form: ItemForm, real_items: ItemSet | None) -> list[Tensor]:
    """Return batches of random and real items in the sizes to check, each (B, D) as the model sees it."""
    generator = torch.Generator().manual_seed(0)
    draw = torch.rand if form.kind == "images" else torch.randn
    batches = [draw(size, form.values_per_item, generator=generator) for size in CHECKED_SIZES]
    if real_items is not None:
        batches += [torch.from_numpy(real_items.batch(0, size)) for size in CHECKED_SIZES]
    return batches


@torch.inference_mode()
def _values(trained: Checkpoint, x: Tensor, raw: bool) -> dict[str, np.ndarray]:
    """Return inputs and outputs of the model for a batch, (B, D); in the data's values if ``raw``."""
    model = trained.model(torch.device("cpu"))
    own = trained.form.restored(x.numpy())
    if raw:
        own = own if trained.form.transform == "none" else np.maximum(own, 0)
        x = torch.from_numpy(trained.form.normalize(trained.form.transformed(own)))
    code = model.encode(x)
    reconstruction = model.decode(code).numpy()
    if raw:
        reconstruction = trained.form.restored(reconstruction)
    return {"input": own if raw else x.numpy(), "code": code.numpy(), "reconstruction": reconstruction}


def export_score(run: OpenRun, judged: JudgedBy) -> tuple[bytes, Proof]:
    """Export a model as one graph from raw values to the whole answer; return the file and the proof that it answers as tiedae does.

    Args:
        run: the model, on the CPU.
        judged: how it judges.

    Raises:
        InputError: a package is not installed, or there is no threshold.
        ExportError: the answers differ, or the format cannot represent the model.
    """
    scorer = Scorer(run)
    document = score_document(scorer, judged)
    content = build_score_onnx(run.network, run.form, scorer.ranker, document)
    proof = prove(content, scorer, document)
    log.info(proof.describe())
    if document.training_items_inside:
        log.info(f"the file embeds {document.training_items_inside:,} training items, which the score neighbours compares with")
    return content, proof


def export_run(run: OpenRun, kind: str, part: Part, raw: bool) -> tuple[bytes, float | None]:
    """Export a model; return the file and, for ONNX, the largest difference between its outputs and the model's.

    Args:
        run: the model.
        kind: onnx or safetensors.
        part: encoder, decoder or both.
        raw: whether the file takes raw values.

    Raises:
        InputError: a package is not installed.
        ExportError: the outputs differ, or the format cannot represent the model.
    """
    if kind == "safetensors":
        return safetensors_file(run.trained, part), None
    content = onnx_file(run.trained, part, raw)
    difference, items = check_onnx(content, run.trained, part, raw, _test_items(run))
    log.info(f"checked with onnxruntime on {items} items: largest difference {difference:.1e}")
    return content, difference


def _test_items(run: OpenRun) -> ItemSet | None:
    """Return test items for the check; None, with a warning, if the data cannot be read."""
    try:
        return run.split("test")
    except DataError as error:
        log.warning(f"the ONNX file is checked with random values only, because the data cannot be read: {error}")
        return None
