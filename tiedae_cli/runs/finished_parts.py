"""What a training adds to ``best.safetensors`` once, at its end: PCA, calibration, ranker, reference statistics and results.

Each part is a dataclass with tensors, which lie under a prefix of their own in the file, and plain values in the JSON document.
``read_parts`` validates them as strictly as the rest of a checkpoint.
Shapes: D values of an item, K components, V values of a row, Q quantiles.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import torch
from pydantic import BaseModel
from torch import Tensor

from tiedae_cli.data.item_set import ItemForm
from tiedae_cli.model.pca import PrincipalComponents
from tiedae_cli.runs.calibration import TAIL_SHARE, Calibration, kept_ranks
from tiedae_cli.runs.reference import QUANTILES, Reference
from tiedae_cli.runs.training_state import STRICT

PREFIXES = ("pca.", "calibration.", "score.", "reference.")
ORTHONORMAL = 1e-4  # how far C^T C of float32 components may lie from the identity
End = Literal["finished", "stopped early", "interrupted", "diverged"]


@dataclass(frozen=True)
class Results:
    """What a training reached."""

    __pydantic_config__ = STRICT

    state: End
    """How it ended."""
    epochs: int
    """Joint epochs done."""
    planned: int
    """Joint epochs asked for."""
    best_epoch: int
    mse_per_value: float
    """Of the best epoch: validation, else training."""
    pca_mse_per_value: float
    """Of PCA on the same items."""
    pca_clipped_mse_per_value: float | None
    """Of PCA with its answers clipped to [0, 1]; None unless the items are images."""
    mean_mse_per_value: float
    """Of always answering the training mean."""
    seconds: float
    """Time of all epochs."""


@dataclass(frozen=True)
class FinishedParts:
    """What only a finished training knows."""

    pca: PrincipalComponents
    """Fitted to the training items, in float32."""
    calibration: Calibration | None
    """Of what ``score`` judges by: item scores, of windows row scores. None without validation items."""
    window_calibration: Calibration | None
    """Of the scores of whole windows; None of other items."""
    score: Mapping[str, Tensor]
    """What ``score.rank`` needs of the training items, by name; empty if it needs nothing."""
    reference: Reference
    results: Results

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors by their names in the file."""
        calibrations = {"scores": self.calibration, "window_scores": self.window_calibration}
        return {
            "pca.mean": self.pca.mean,
            "pca.components": self.pca.components,
            **{f"calibration.{name}": one.scores for name, one in calibrations.items() if one is not None},
            **{f"score.{name}": value for name, value in self.score.items()},
            **{f"reference.{name}": getattr(self.reference, name) for name in _reference_names()},
        }

    def document(self) -> dict[str, Any]:
        """Return the plain values."""
        return {
            "calibration_items": None if self.calibration is None else self.calibration.items,
            "window_calibration_items": None if self.window_calibration is None else self.window_calibration.items,
            "reference_items": self.reference.items,
            "results": asdict(self.results),
        }


class PartsDocument(BaseModel):
    """The plain values of ``FinishedParts`` in the document of a checkpoint."""

    model_config = STRICT

    calibration_items: int | None
    window_calibration_items: int | None
    reference_items: int
    results: Results


def take_parts(document: PartsDocument | None, tensors: dict[str, Tensor], form: ItemForm, code: int) -> FinishedParts | None:
    """Take the tensors of the parts out of those of a file, and return the parts; None if the file has none.

    Args:
        document: their plain values.
        tensors: of the file; those of the parts are removed.
        form: of an item.
        code: numbers of the model's code.

    Raises:
        ValueError: a part cannot be what a training kept.
    """
    if document is None:
        return None
    found = {name: tensors.pop(name) for name in list(tensors) if name.startswith(PREFIXES)}
    for name, value in found.items():
        if not bool(value.isfinite().all()):
            what = "the statistics of its score" if name.startswith("score.") else name
            raise ValueError(f"{what}: not finite numbers")
    parts = FinishedParts(
        _pca(found, form.values_per_item, code),
        _calibration(found, "calibration.scores", document.calibration_items),
        _calibration(found, "calibration.window_scores", document.window_calibration_items),
        {name.removeprefix("score."): value for name, value in found.items() if name.startswith("score.")},
        _reference(found, document.reference_items, form),
        document.results,
    )
    if parts.tensors().keys() != found.keys():
        raise ValueError("its calibration, PCA or reference statistics have other names")
    return parts


def _pca(found: Mapping[str, Tensor], width: int, code: int) -> PrincipalComponents:
    mean, components = (_typed(found, f"pca.{name}", torch.float32) for name in ("mean", "components"))
    if mean.shape != (width,) or components.dim() != 2 or len(components) != width or components.shape[1] > min(width, code):
        raise ValueError("its PCA does not have its data's form")
    exact = components.to(torch.float64)
    apart = (exact.t() @ exact - torch.eye(components.shape[1], dtype=torch.float64)).abs()
    if apart.numel() and not apart.max() < ORTHONORMAL:
        raise ValueError("its principal components are not orthonormal")
    return PrincipalComponents(mean, components)


def _calibration(found: Mapping[str, Tensor], name: str, items: int | None) -> Calibration | None:
    if items is None:
        return None
    scores = _typed(found, name, torch.float64)
    possible = scores.dim() == 1 and 0 < len(scores) <= items <= TAIL_SHARE * len(scores)  # before ranks take any memory
    if not possible or len(scores) != len(kept_ranks(items)):
        raise ValueError(f"{name}: not the scores of {items:,} items")
    if bool((scores[1:] < scores[:-1]).any()):
        raise ValueError(f"{name}: not in ascending order")
    return Calibration(scores, items)


def _reference(found: Mapping[str, Tensor], items: int, form: ItemForm) -> Reference:
    width = form.shape[2] if form.window > 1 else form.values_per_item
    statistics = {
        name: _typed(found, f"reference.{name}", torch.float64 if name in ("mean", "deviation") else torch.float32)
        for name in _reference_names()
    }
    quantiles = statistics["quantiles"]
    shapes = {name: tuple(value.shape) for name, value in statistics.items() if name != "quantiles"}
    rows = QUANTILES if form.kind == "vectors" else 0
    if set(shapes.values()) != {(width,)} or quantiles.shape != (rows, width) or items < 1:
        raise ValueError("its reference statistics do not have its data's form")
    reference = Reference(items, **statistics)
    ordered = bool((reference.low <= reference.high).all()) and not bool((quantiles[1:] < quantiles[:-1]).any())
    if not ordered or bool((reference.deviation < 0).any()):
        raise ValueError("its reference statistics are impossible")
    return reference


def _reference_names() -> list[str]:
    return [field.name for field in fields(Reference) if field.name != "items"]


def _typed(found: Mapping[str, Tensor], name: str, dtype: torch.dtype) -> Tensor:
    if name not in found or found[name].dtype != dtype:
        raise ValueError(f"{name}: missing, or not of type {str(dtype).removeprefix('torch.')}")
    return found[name]
