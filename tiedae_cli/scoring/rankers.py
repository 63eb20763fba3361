"""The ways to rank items: what each must offer, the short ones themselves, and the list of all.

To add one, name it in ``score.rank`` (config/schema.py), write its class here and add it to ``RANKERS``.
Shapes: B items per block, D values per item.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

import torch
from torch import Tensor

from tiedae_cli.config import Config
from tiedae_cli.config.schema import Rank
from tiedae_cli.data.item_set import ItemForm, ItemSet
from tiedae_cli.errors import ExportError
from tiedae_cli.model.metrics import squares
from tiedae_cli.model.onnx_graph import OnnxGraph
from tiedae_cli.scoring.neighbours import Neighbours
from tiedae_cli.scoring.regions import append_region_sums, region_means, region_side
from tiedae_cli.system.devices import in_float64


class Ranker(Protocol):
    """Ranks the items of one model: the higher an item's score, the more anomalous it is."""

    kept: ClassVar[frozenset[str]]
    """Names of the tensors that a checkpoint keeps for it; empty if it needs no training items."""

    @classmethod
    def refusal(cls, form: ItemForm) -> str | None:
        """Return why items of a form cannot be ranked, None if they can: the end of a message that begins with its name."""

    @classmethod
    def fit(cls, model: Callable[[Tensor], Tensor], items: ItemSet, config: Config, device: torch.device) -> Self:
        """Return the ranker of a trained model, (B, D) -> (B, D), from its training items."""

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], form: ItemForm, config: Config) -> Self:
        """Return the ranker that ``tensors()`` describes, on their device.

        Args:
            tensors: finite, named as ``kept`` says.
            form: of an item.
            config: that the model was trained with.

        Raises:
            ValueError: a tensor does not have the shape or type that the form asks for.
        """

    def tensors(self) -> dict[str, Tensor]:
        """Return what a checkpoint keeps, by name, on the CPU after ``fit``."""

    def scores(self, x: Tensor, reconstruction: Tensor) -> Tensor:
        """Return the score of each item, (B, D) and (B, D) -> (B,) float64; of no item none."""

    def onnx(self, graph: OnnxGraph, x: str, reconstruction: str) -> str:
        """Append the operators of ``scores`` to a graph, and return the name of the scores, (B,) float64.

        Args:
            graph: of the exported model.
            x: name of the items as the model sees them, (B, D) float32.
            reconstruction: name of their reconstructions, (B, D) float32.

        Raises:
            ExportError: ONNX cannot represent it.
        """


@dataclass(frozen=True)
class Stateless:
    """What rankers that need no training items have in common."""

    form: ItemForm
    kept: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def refusal(cls, form: ItemForm) -> str | None:
        """Return None: items of any form can be ranked."""
        return None

    @classmethod
    def fit(cls, model: Callable[[Tensor], Tensor], items: ItemSet, config: Config, device: torch.device) -> Self:
        """Return the ranker of the items' form."""
        return cls(items.form)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], form: ItemForm, config: Config) -> Self:
        """Return the ranker of a form."""
        return cls(form)

    def tensors(self) -> dict[str, Tensor]:
        """Return no tensors."""
        return {}

    def onnx(self, graph: OnnxGraph, x: str, reconstruction: str) -> str:
        """Raise ``ExportError``: a ranker that defines no operators cannot be exported."""
        raise ExportError(f"{type(self).__name__}: this way to rank has no ONNX operators (scoring/rankers.py)")


class SquaredError(Stateless):
    """Ranks items by the squared error of their reconstruction, summed over their values: score(x) = sum r(x)^2."""

    def scores(self, x: Tensor, reconstruction: Tensor) -> Tensor:
        """Return the squared error of each item, (B, D) and (B, D) -> (B,) float64."""
        return squares(reconstruction - x).sum(1)

    def onnx(self, graph: OnnxGraph, x: str, reconstruction: str) -> str:
        """Append the squared error of each item, (B,) float64."""
        return graph.reduced("ReduceSum", graph.squares(x, reconstruction))


class Region(Stateless):
    """Ranks images by their most anomalous region: a small defect is lost in the error summed over the whole image.

    With the residual r(x) = decode(encode(x)) - x and the regions Q of the image,

        score(x) = max over Q of sum over the pixels of Q, and their channels, of r(x)^2
    """

    @classmethod
    def refusal(cls, form: ItemForm) -> str | None:
        """Refuse what is not an image."""
        return None if form.kind == "images" else "looks at parts of images"

    def scores(self, x: Tensor, reconstruction: Tensor) -> Tensor:
        """Return the squared error of each image's worst region, (B, D) and (B, D) -> (B,) float64."""
        if not len(x):
            return in_float64(x.new_zeros(0))
        values = region_side(self.form) ** 2 * self.form.shape[0]  # of one region
        return region_means(squares(reconstruction - x), self.form).flatten(1).amax(1) * values

    def onnx(self, graph: OnnxGraph, x: str, reconstruction: str) -> str:
        """Append the squared error of each image's worst region, (B,) float64."""
        images = graph.reshaped(graph.squares(x, reconstruction), self.form.shape)
        return graph.reduced("ReduceMax", append_region_sums(graph, images, self.form))


RANKERS: dict[Rank, type[Ranker]] = {"squared_error": SquaredError, "region": Region, "neighbours": Neighbours}


def fit_ranker(model: Callable[[Tensor], Tensor], items: ItemSet, config: Config, device: torch.device) -> Ranker:
    """Return by what ``score.rank`` ranks the items of a trained model, (B, D) -> (B, D), from its training items."""
    return RANKERS[config.score.rank].fit(model, items, config, device)


def open_ranker(tensors: Mapping[str, Tensor], form: ItemForm, config: Config) -> Ranker:
    """Return the ranker that a checkpoint's tensors describe, on their device.

    Raises:
        ValueError: they are not those that ``score.rank`` keeps of items of this form.
    """
    kind = RANKERS[config.score.rank]
    if set(tensors) != kind.kept:
        raise ValueError("its score has other statistics")
    return kind.from_tensors(tensors, form, config)
