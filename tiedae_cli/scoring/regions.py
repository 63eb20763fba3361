"""The regions of an image: the squares of s x s pixels that lie in it, s an eighth of its shorter side.

Shapes: B images per block, D values per image of C x H x W.
"""

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from tiedae_cli.data.item_set import ItemForm
from tiedae_cli.model.onnx_graph import OnnxGraph

REGIONS_A_SIDE = 8  # of the image's shorter side


def region_side(form: ItemForm) -> int:
    """Return how many pixels wide and high a region of an image is."""
    return max(1, round(min(form.shape[1:]) / REGIONS_A_SIDE))


def region_means(values: Tensor, form: ItemForm) -> Tensor:
    """Return the mean of each region by its upper left corner, (B, D) -> (B, H - s + 1, W - s + 1)."""
    return F.avg_pool2d(values.reshape(-1, *form.shape).mean(1, keepdim=True), region_side(form), 1)[:, 0]


def append_region_sums(graph: OnnxGraph, values: str, form: ItemForm) -> str:
    """Append the sum of each region, (B, C, H, W) float64 -> (B, places) float64, and return its name."""
    _, height, width = form.shape
    down, across = (_bands(length, region_side(form)) for length in (height, width))
    # A batch may be empty, which some versions of onnxruntime cannot multiply: one more image is added up and dropped.
    extra = graph.constant("regions.extra", np.zeros((1, height, width)))
    flat = graph.add("Concat", graph.reduced("ReduceSum", values), extra, axis=0)  # (B + 1, H, W)
    sums = graph.add("MatMul", graph.constant("regions.down", down), flat)
    sums = graph.add("MatMul", sums, graph.constant("regions.across", np.ascontiguousarray(across.T)))
    bounds = (graph.constant(f"regions.{name}", np.array([value])) for name, value in (("first", 0), ("last", -1)))
    return graph.reshaped(graph.add("Slice", sums, *bounds), (len(down) * len(across),))


def _bands(length: int, side: int) -> np.ndarray:
    """Return the matrix that adds up each ``side`` neighbors, (length - side + 1, length) float64."""
    steps = np.arange(length)[None] - np.arange(length - side + 1)[:, None]
    bands: np.ndarray = ((steps >= 0) & (steps < side)).astype(np.float64)
    return bands
