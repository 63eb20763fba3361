"""All parameters of a model in one flat buffer, so that Adam, gradient norms and all-reduce are one operation each."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tiedae_cli.model.autoencoder import TiedAutoencoder


@dataclass(frozen=True)
class ModelViews:
    """A flat buffer seen as the model's tensors, layer by layer."""

    weights: list[Tensor]
    """(H_l, H_(l-1)) each."""
    decoder_weights: list[Tensor]
    """The same shapes; empty where tied."""
    encoder_biases: list[Tensor]
    """(H_l,) each."""
    decoder_biases: list[Tensor]
    """(H_(l-1),) each."""


class FlatParameters:
    """A model's parameters moved into one buffer, weights first, then biases; the model sees views of it.

    Args:
        model: its parameters are re-pointed into ``master``.
        compute_dtype: the type of the matrix products; another than the model's own makes copies in that type.
    """

    def __init__(self, model: TiedAutoencoder, compute_dtype: torch.dtype) -> None:
        parameters = [*model.weights, *model.decoder_weights, *model.encoder_biases, *model.decoder_biases]
        self.shapes = [parameter.shape for parameter in parameters]
        self.group_sizes = (len(model.weights), len(model.decoder_weights), len(model.encoder_biases))
        self.weight_count = sum(weight.numel() for weight in (*model.weights, *model.decoder_weights))
        self.master = torch.cat([parameter.detach().reshape(-1) for parameter in parameters])  # (P,)
        self.gradient = torch.zeros_like(self.master)
        for parameter, view in zip(parameters, self._tensors(self.master), strict=True):
            parameter.data = view
        self.mixed = compute_dtype != self.master.dtype
        self.compute = self.master.to(compute_dtype) if self.mixed else self.master
        self.compute_gradient = torch.zeros_like(self.compute) if self.mixed else self.gradient

    def _tensors(self, flat: Tensor) -> list[Tensor]:
        parts = torch.split(flat, [shape.numel() for shape in self.shapes])
        return [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def views(self, flat: Tensor) -> ModelViews:
        """Return a buffer of this layout, (P,), as the model's tensors."""
        tensors = iter(self._tensors(flat))
        weights, decoder_weights, encoder_biases = ([next(tensors) for _ in range(size)] for size in self.group_sizes)
        return ModelViews(weights, decoder_weights, encoder_biases, list(tensors))

    def refresh_compute(self) -> None:
        """Copy the master parameters into the type of the products, before a step."""
        if self.mixed:
            self.compute.copy_(self.master)

    def collect_gradient(self) -> None:
        """Copy the gradient into the master's type, after the products."""
        if self.mixed:
            self.gradient.copy_(self.compute_gradient)
