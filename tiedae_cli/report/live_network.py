"""The model embedded in the page: 16 bits per weight if that changes no reconstructed pixel visibly, else 32.

Shapes: P items, codes of size K, D values per item; a weight is (O, I).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tiedae_cli.data.item_set import ItemForm
from tiedae_cli.model.activations import ACTIVATIONS
from tiedae_cli.model.autoencoder import TiedAutoencoder
from tiedae_cli.model.layers import Layer
from tiedae_cli.model.linear_path import LinearPath
from tiedae_cli.report.code_chapter import Chosen
from tiedae_cli.report.page.arrays_block import Arrays
from tiedae_cli.runs.run_comparison import has_same_units
from tiedae_cli.runs.trained_run import OpenRun

LIVE = {"Gemm", "Conv"}  # ONNX operators of the layers implemented in scripts/network.js
MOST_PARAMETERS = 8_000_000  # of an embedded model: 16 MB
UNSEEN = 1 / 2048  # an eighth of a gray level: largest change by 16-bit rounding
CHECKED = 256  # items on which the change is measured
DIRECTIONS = 8
LEVELS = 32_767

Pack = Callable[[Tensor], dict[str, Any]]


@torch.inference_mode()
def embedded_network(run: OpenRun, form: ItemForm, chosen: Chosen, arrays: Arrays) -> dict[str, Any]:
    """Return the weights that the page needs to encode and decode, and the code's principal directions.

    Args:
        run: the model.
        form: its units are those of the page.
        chosen: items, as the model sees them, for checking the rounding and for the principal directions.
        arrays: receives the weights.
    """
    network = run.trained.model(torch.device("cpu"))
    count = sum(parameter.numel() for parameter in network.parameters())
    if count > MOST_PARAMETERS:
        return {"missing": f"it has {count:,} parameters; a page holds at most {MOST_PARAMETERS:,}"}
    missing = _unsupported(network)
    if missing is not None:
        return {"missing": missing}
    wide = rounding_shows(network, chosen.values[:CHECKED])

    def pack(weight: Tensor) -> dict[str, Any]:
        if wide:
            return {"values": arrays.add(weight.numpy())}
        levels, scale = rounded(weight)
        return {"values": arrays.add(levels), "scale": arrays.add(scale)}

    return {
        "missing": None,
        "bits": 32 if wide else 16,
        "layers": [_layer(layer, pack, arrays) for layer in network.layers],
        "path": None if network.path is None else _path(network.path, pack, arrays),
        "code_top_k": network.code_top_k,
        "parameters": count,
        "form": _scaling(run.form, form),
        **_directions(network, chosen.values, arrays),
    }


def _unsupported(network: TiedAutoencoder) -> str | None:
    """Return why a page cannot run the model; None if it can."""
    unknown = {layer.operator("encoder")[0] for layer in network.layers} - LIVE
    if unknown:
        return f"a page cannot run its {' and '.join(sorted(unknown))} layers"
    used = {name for layer in network.layers for name in (layer.activation, layer.decoder_activation)}
    used |= set() if network.path is None else {network.path.output}
    unknown = {name for name in used if ACTIVATIONS[name].page is None}
    return f"a page cannot run the activation {' and '.join(sorted(unknown))}" if unknown else None


def _layer(layer: Layer, pack: Pack, arrays: Arrays) -> dict[str, Any]:
    return {
        "operator": layer.operator("encoder"),
        "input_shape": list(layer.input_shape),
        "output_shape": list(layer.output_shape),
        "activation": ACTIVATIONS[layer.activation].page,
        "decoder_activation": ACTIVATIONS[layer.decoder_activation].page,
        "weight": pack(layer.weight.detach()),
        "decoder_weight": None if layer.tied else pack(layer.transposed.detach()),
        "encoder_bias": arrays.add(layer.encoder_bias.detach().numpy()),
        "decoder_bias": arrays.add(layer.decoder_bias.detach().numpy()),
    }


def _path(path: LinearPath, pack: Pack, arrays: Arrays) -> dict[str, Any]:
    return {
        "layer": _layer(path.layer, pack, arrays),
        "code_gate": arrays.add(path.code_gate.detach().numpy()),
        "output_gate": arrays.add(path.output_gate.detach().numpy()),
        "activation": ACTIVATIONS[path.output].page,
    }


def rounded(weight: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Quantize a weight, (O, ...), to int16 with a float32 scale per row, which is eight times finer than half precision."""
    rows = weight.flatten(1)
    scale = rows.abs().amax(1).clamp_min(1e-30) / LEVELS  # (O,)
    levels = (rows / scale[:, None]).round().clamp(-LEVELS, LEVELS)
    return levels.reshape(weight.shape).numpy().astype(np.int16), scale.numpy()


@torch.inference_mode()
def rounding_shows(network: TiedAutoencoder, items: Tensor) -> bool:
    """Return whether 16-bit weights change any reconstructed value by more than ``UNSEEN``; ``network`` is not modified."""
    before = network(items)
    weights = {name: weight.clone() for name, weight in network.state_dict().items()}
    coarse = {}
    for name, weight in weights.items():
        if weight.dim() > 1:
            levels, scale = rounded(weight)
            factors = torch.from_numpy(scale).reshape(-1, *[1] * (weight.dim() - 1))
            coarse[name] = torch.from_numpy(levels).float() * factors
    after = torch.func.functional_call(network, {**weights, **coarse}, (items,))
    return bool((after - before).abs().max() > UNSEEN)


def _scaling(own: ItemForm, page: ItemForm) -> dict[str, Any]:
    """Return the scaling of vectors on the page, raw = value / scale + offset, and the model's: its value = value * ratio + shift."""
    if page.kind == "images":
        return {"scale": None, "offset": None, "ratio": None, "shift": None}
    (scale, offset), (own_scale, own_offset) = _affine(page), _affine(own)
    named = {"scale": scale.tolist(), "offset": offset.tolist()}
    if has_same_units(own, page):
        return {**named, "ratio": None, "shift": None}
    return {**named, "ratio": (own_scale / scale).tolist(), "shift": ((offset - own_offset) * own_scale).tolist()}


def _affine(form: ItemForm) -> tuple[Tensor, Tensor]:
    """Return the scale and the offset of each value, (D,) float64 each."""
    scale = torch.as_tensor(form.scale).double().expand(form.values_per_item)
    return scale, torch.as_tensor(0.0 if form.offset is None else form.offset).double().expand(form.values_per_item)


def _directions(network: TiedAutoencoder, items: Tensor, arrays: Arrays) -> dict[str, Any]:
    """Return the eight strongest principal directions, (8, K), the deviation along each, and the mean code, (K,)."""
    codes = network.encode(items)  # (P, K)
    mean = codes.double().mean(0)
    _, strengths, directions = torch.linalg.svd(codes.double() - mean, full_matrices=False)
    count = min(DIRECTIONS, len(strengths))
    deviations = strengths[:count] / max(1, len(codes)) ** 0.5
    variance = (strengths**2).sum().clamp_min(1e-300)
    return {
        "mean_code": arrays.add(mean.float().numpy()),
        "directions": arrays.add(directions[:count].float().contiguous().numpy()),
        "deviations": deviations.tolist(),
        "shares": (strengths[:count] ** 2 / variance).tolist(),
    }
