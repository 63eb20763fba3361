"""The score ``neighbours``: how far an item, and what the model makes of it, lie from the nearest training items.

With the residual r(x) = decode(encode(x)) - x, its mean m and covariance S = L L^T over the training items, w(x) = L^-1 (r(x) - m) is
the error in the unit of what is usual in each direction. With d_i(x) the distance of x to the i-th nearest of the references (training
items, all or a random choice) and e_i(x) the same of the pair (x, w(x)),

    score(x) = sqrt((1/k) sum_(i <= k) d_i(x) * (1/k) sum_(i <= k) e_i(x)) / sqrt(D)

The first knows clusters and gaps that a network smooths over (Ramaswamy et al. 2000), the second what the network knows of how values
go together. S is shrunk towards a multiple of the unit matrix (Ledoit & Wolf 2004), so that it can be inverted where items are few.

Matrix products in float64 find the nearest references; their distances are then sums of squared differences, for |x|^2 - 2 x y + |y|^2
cancels where x and y are alike. So an item that k references equal has the score 0, and a score does not depend on the items beside it.
Shapes: N items, B items per block, D values per item, M references, C candidates.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from tiedae_cli.config import Config
from tiedae_cli.data.item_set import ItemForm, ItemSet
from tiedae_cli.model.inference import batch_size
from tiedae_cli.model.item_batches import as_seen
from tiedae_cli.model.onnx_graph import OnnxGraph
from tiedae_cli.system.devices import in_float64

SHRINKAGE = 0.1
REFERENCES = 8192  # items at most
REFERENCE_VALUES = 1 << 23  # values of all references at most (32 MiB), but
LEAST_REFERENCES = 512
DISTANCES = 1 << 21  # of one block, in memory at once
SPARE = 5  # candidates beyond k, for rounding exchanges neighbours that are almost equally far
GATHERED = 1 << 20  # values of candidates in memory at once


@dataclass(frozen=True)
class Neighbours:
    """Ranks items by their distance to the nearest training items; the statistics that this needs."""

    kept: ClassVar[frozenset[str]] = frozenset({"mean", "whitening", "references"})
    mean: Tensor
    """(D,) of the residuals."""
    whitening: Tensor
    """(D, D), lower triangular: the inverse of the Cholesky factor of S."""
    references: Tensor
    """(M, 2 D): training items as the model sees them, each beside its w."""
    neighbours: int
    """k"""

    @classmethod
    def refusal(cls, form: ItemForm) -> str | None:
        """Return None: items of any form can be ranked."""
        return None

    @classmethod
    def fit(cls, model: Callable[[Tensor], Tensor], items: ItemSet, config: Config, device: torch.device) -> Self:
        """Return the statistics, on the CPU, of a trained model's training items.

        Args:
            model: (B, D) -> (B, D), on the device.
            items: its training items.
            config: k, and the seed of the choice of references if there are more items than are kept.
            device: where to compute.
        """
        mean, whitening = _residual_statistics(model, items, device)
        references = _references(model, items, mean, whitening, config.training.seed, device)
        return cls(mean, whitening, references, config.score.neighbours)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], form: ItemForm, config: Config) -> Self:
        """Return what a checkpoint's tensors describe.

        Raises:
            ValueError: they are not those of items of this form.
        """
        mean, whitening, references = (tensors[name] for name in ("mean", "whitening", "references"))
        width = form.values_per_item
        shapes = [tuple(value.shape) for value in (mean, whitening, references)]
        if shapes[:2] != [(width,), (width, width)] or shapes[2][1:] != (2 * width,) or not shapes[2][0]:
            raise ValueError("the statistics of its score do not have its data's form")
        if not all(value.dtype == torch.float32 for value in tensors.values()):
            raise ValueError("the statistics of its score are not in float32")
        return cls(mean, whitening, references, config.score.neighbours)

    def tensors(self) -> dict[str, Tensor]:
        """Return what a checkpoint keeps, by name."""
        return {name: getattr(self, name) for name in self.kept}

    @cached_property
    def _exact(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The three statistics in float64, the references less their mean, and this mean, (2 D,)."""
        mean, whitening, references = (in_float64(value) for value in (self.mean, self.whitening, self.references))
        center = references.mean(0)
        return mean, whitening, references - center, center

    @torch.inference_mode()
    def scores(self, x: Tensor, reconstruction: Tensor) -> Tensor:
        """Return the score of each item, (B, D) and (B, D) -> (B,) float64, on the CPU where their device has no float64."""
        residuals = reconstruction - x
        mean, whitening, references, center = self._exact
        pairs = torch.cat([in_float64(x), whitened(in_float64(residuals), mean, whitening)], 1) - center  # (B, 2 D)
        blocks = torch.split(pairs, max(1, DISTANCES // len(references)))
        order = pairs.new_empty(len(blocks[0]), len(references))  # once, for new memory costs as much as the products
        return torch.cat([self._block_scores(block, references, order[: len(block)]) for block in blocks])

    def _block_scores(self, pairs: Tensor, references: Tensor, order: Tensor) -> Tensor:
        width, count = pairs.shape[1] // 2, min(self.neighbours + SPARE, len(references))
        (x, white), (items, residuals) = torch.split(pairs, width, 1), torch.split(references, width, 1)
        torch.addmm(items.square().sum(1), x, items.t(), alpha=-2, out=order)  # (B, M) squared distances, less |x|^2
        apart = self._mean_distances(x, items, order.topk(count, 1, largest=False).indices)
        order.add_(residuals.square().sum(1)).addmm_(white, residuals.t(), alpha=-2)
        together = self._mean_distances(pairs, references, order.topk(count, 1, largest=False).indices)
        return (apart * together / width).sqrt()

    def _mean_distances(self, items: Tensor, references: Tensor, candidates: Tensor) -> Tensor:
        """Return the mean distance of each item, (B, W), to the k nearest of its candidates, (B, C) among (M, W) -> (B,)."""
        size = max(1, GATHERED // (candidates.shape[1] * items.shape[1]))
        parts = zip(torch.split(items, size), torch.split(candidates, size), strict=True)
        squares = torch.cat([(references[chosen] - part[:, None]).square_().sum(2) for part, chosen in parts])
        count = min(self.neighbours, squares.shape[1])
        return squares.topk(count, 1, largest=False).values.sqrt().mean(1)

    def onnx(self, graph: OnnxGraph, x: str, reconstruction: str) -> str:
        """Append the score of each item, (B,) float64; the file holds the references once, in float32."""
        return append_neighbours(graph, self, x, reconstruction)


def append_neighbours(graph: OnnxGraph, ranker: Neighbours, x: str, reconstruction: str) -> str:
    """Append the operators of ``Neighbours.scores`` to a graph, and return the name of the scores; arguments as of ``Ranker.onnx``."""
    _, _, references, center = ranker._exact
    width, count = len(ranker.mean), min(ranker.neighbours + SPARE, len(references))
    # A batch may be empty, and TopK divides by the number of rows in onnxruntime before 1.31: one more row is scored and dropped.
    extra = graph.constant("neighbours.extra", np.zeros((1, width), np.float32))
    x, reconstruction = (graph.add("Concat", value, extra, axis=0) for value in (x, reconstruction))
    residual = graph.cast(graph.add("Sub", reconstruction, x), "DOUBLE")
    mean, whitening = (_float64_constant(graph, name, getattr(ranker, name)) for name in ("mean", "whitening"))
    white = graph.add("Gemm", graph.add("Sub", residual, mean), whitening, transB=1)  # (B, D)
    centered, kept, norms = list[str](), list[str](), list[str]()
    for part, value in enumerate((graph.cast(x, "DOUBLE"), white)):  # the items, then what the network adds
        half = slice(part * width, (part + 1) * width)
        middle = graph.constant(f"neighbours.center_{part}", center[half])
        stored = _float64_constant(graph, f"references_{part}", ranker.references[:, half].contiguous())
        kept.append(graph.add("Sub", stored, middle))  # (M, D)
        centered.append(graph.add("Sub", value, middle))  # (B, D)
        norms.append(graph.constant(f"neighbours.norms_{part}", references[:, half].square().sum(1)))  # (M,)
    distances, means = list[str](), list[str]()
    for part in (0, 1):  # of the items alone, then of both together
        distances.append(graph.add("Gemm", centered[part], kept[part], norms[part], alpha=-2.0, transB=1))  # (B, M)
        order = distances[0] if not part else graph.add("Add", *distances)
        graph.top(order, count, f"candidates_{part}")
        means.append(_append_mean_distance(graph, centered[: part + 1], kept[: part + 1], f"candidates_{part}", ranker))
    size = graph.constant("neighbours.values", np.array(float(width)))
    scores = graph.add("Sqrt", graph.add("Div", graph.add("Mul", *means), size))
    bounds = (graph.constant(f"neighbours.{name}", np.array([value])) for name, value in (("first", 0), ("last", -1)))
    return graph.add("Slice", scores, *bounds)


def _float64_constant(graph: OnnxGraph, name: str, value: Tensor) -> str:
    return graph.cast(graph.constant(f"neighbours.{name}", value.to(torch.float32)), "DOUBLE")


def _append_mean_distance(
    graph: OnnxGraph, items: Sequence[str], references: Sequence[str], candidates: str, ranker: Neighbours
) -> str:
    """Append the mean distance of each item to the k nearest of its candidates, (B, C) -> (B,), over one part or both."""
    axis = graph.constant("axis_1", np.array([1]))
    last = graph.constant("axis_2", np.array([2]))
    sums = list[str]()
    for item, reference in zip(items, references, strict=True):
        apart = graph.add("Sub", graph.add("Gather", reference, candidates), graph.add("Unsqueeze", item, axis))  # (B, C, D)
        sums.append(graph.add("ReduceSum", graph.add("Mul", apart, apart), last, keepdims=0))  # (B, C)
    squares = sums[0] if len(sums) == 1 else graph.add("Add", *sums)
    nearest = graph.top(squares, min(ranker.neighbours, len(ranker.references)), f"{candidates}_order")
    return graph.reduced("ReduceMean", graph.add("Sqrt", nearest))


def whitened(residuals: Tensor, mean: Tensor, whitening: Tensor) -> Tensor:
    """Return w of residuals, (B, D) -> (B, D)."""
    return (residuals - mean) @ whitening.t()


@torch.inference_mode()
def _residual_statistics(model: Callable[[Tensor], Tensor], items: ItemSet, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the residuals' mean and the inverse of the Cholesky factor of their covariance, shrunk: (D,) and (D, D)."""
    size, width = batch_size(items), items.form.values_per_item
    total, products = torch.zeros(width, dtype=torch.float64), torch.zeros(width, width, dtype=torch.float64)
    for start in range(0, len(items), size):
        x = as_seen(items, start, start + size, device)
        residuals = (model(x) - x).cpu().to(torch.float64)
        total += residuals.sum(0)
        products += residuals.t() @ residuals
    mean = total / len(items)
    covariance = products / len(items) - torch.outer(mean, mean)
    spread = covariance.diagonal().mean().clamp_min(1e-12)
    shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * spread * torch.eye(width, dtype=torch.float64)
    factor = torch.linalg.cholesky(shrunk)
    whitening = torch.linalg.solve_triangular(factor, torch.eye(width, dtype=torch.float64), upper=False)
    return mean.to(torch.float32), whitening.to(torch.float32)


@torch.inference_mode()
def _references(
    model: Callable[[Tensor], Tensor], items: ItemSet, mean: Tensor, whitening: Tensor, seed: int, device: torch.device
) -> Tensor:
    """Return training items, all or a random choice, each beside its w, (M, 2 D)."""
    size, width = batch_size(items), items.form.values_per_item
    count = min(len(items), REFERENCES, max(LEAST_REFERENCES, REFERENCE_VALUES // (2 * width)))
    chosen = torch.randperm(len(items), generator=torch.Generator().manual_seed(seed))[:count].sort().values
    references = []
    for part in torch.split(chosen, size):
        x = as_seen(items.subset(part.numpy()), 0, len(part), device)
        residuals = (model(x) - x).cpu()
        references.append(torch.cat([x.cpu(), whitened(residuals, mean, whitening)], 1))
    return torch.cat(references)
