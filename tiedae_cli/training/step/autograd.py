"""The gradient by autograd, in the same buffers as the hand-written one: slower, for models without a hand-written derivative.

B items per batch (of this process), D values per item, H units of a layer, K units of the code.
"""

import torch
from torch import Tensor

from tiedae_cli.config import Loss
from tiedae_cli.model.activations import ACTIVATIONS
from tiedae_cli.model.autoencoder import TiedAutoencoder, top_k_mask
from tiedae_cli.training.step.losses import LOSSES, cross_entropy
from tiedae_cli.training.step.parameters import FlatParameters
from tiedae_cli.training.step.penalty import CodePenalty


class AutogradGradient:
    """The gradient of the loss for one batch, in ``parameters.gradient``; same interface as ``Gradient``."""

    fused = False

    def __init__(
        self,
        model: TiedAutoencoder,
        parameters: FlatParameters,
        batch_size: int,
        loss: Loss,
        items: int,
        penalty: CodePenalty | None = None,
        corrupted: bool = False,
        cross_entropy_weight: float = 0.0,
    ) -> None:
        self.model, self.parameters, self.penalty = model, parameters, penalty
        self.loss, self.items, self.cross_entropy_weight = LOSSES[loss], items, cross_entropy_weight
        self.input = parameters.compute.new_zeros(batch_size, model.sizes[0])  # (B, D)
        self.target = torch.zeros_like(self.input) if corrupted else self.input
        self.squared_error = parameters.master.new_zeros(())

    def run(self) -> Tensor:
        """Compute the gradient of the batch in ``input``; return its squared error, summed over batch and values, a scalar."""
        self.parameters.refresh_compute()
        flat = self.parameters.compute.detach().requires_grad_()  # (P,), shares memory
        flat.grad = self.parameters.compute_gradient.zero_()
        with torch.enable_grad():
            self._loss(self.parameters.views(flat)).backward()  # type: ignore[no-untyped-call]
        self.parameters.collect_gradient()
        return self.squared_error

    def _loss(self, values: dict[str, Tensor]) -> Tensor:
        """Return the loss of the batch and store its squared error."""
        model, precise = self.model, self.parameters.master.dtype
        h = self.input
        for index in range(len(model.layers)):
            _, h = self._half(index, "encoder", h, values)  # (B, H_(l-1)) -> (B, H_l)
        if model.code_top_k is not None:
            h = h * top_k_mask(h, model.code_top_k)
        if model.path is not None:
            h = self._path("encoder", self.input, values) + values["path.code_gate"] * h
        short, code = h, h.to(precise)  # (B, K)
        for index in reversed(range(len(model.layers))):
            preactivation, h = self._half(index, "decoder", h, values)
        if model.path is not None:
            preactivation = self._path("decoder", short, values) + values["path.output_gate"] * h
            h = ACTIVATIONS[model.path.output].function(preactivation)
        y, z, x = h.to(precise), preactivation.to(precise), self.target.to(precise)  # (B, D)
        self.squared_error = (y.detach() - x).square().sum()
        errors = self.loss.function(y, z, x)  # (B,)
        if self.cross_entropy_weight:
            errors = errors + self.cross_entropy_weight * cross_entropy(y, z, x)
        loss = errors.sum() / (self.items * (x.shape[1] if self.loss.per_value else 1))
        return loss if self.penalty is None else loss + self.penalty.value(code)

    def _path(self, part: str, h: Tensor, values: dict[str, Tensor]) -> Tensor:
        """Return the output of the linear path's ``encoder`` or ``decoder``."""
        assert self.model.path is not None
        layer = self.model.path.layer
        weight, bias = (values[f"path.layer.{name}"] for name in layer.names(part))
        return layer.product(h, weight, bias) if part == "encoder" else layer.transposed_product(h, weight, bias)

    def _half(self, index: int, part: str, h: Tensor, values: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return pre-activation and output of a layer's ``encoder`` or ``decoder``, as rows; the input is rows too."""
        layer = self.model.layers[index]
        weight, bias = (values[f"layers.{index}.{name}"] for name in layer.names(part))
        if part == "encoder":
            z = layer.product(h.reshape(-1, *layer.input_shape), weight, bias).flatten(1)
            return z, ACTIVATIONS[layer.activation].function(z)
        z = layer.transposed_product(h.reshape(-1, *layer.output_shape), weight, bias).flatten(1)
        return z, ACTIVATIONS[layer.decoder_activation].function(z)
