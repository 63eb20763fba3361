"""Forward and backward of the tied autoencoder by hand, into buffers that are made once.

Autograd would compute the two gradients of a tied weight apart and add them. Here each weight W_l, (H_l, H_(l-1)), owns two buffers,

    below (2B, H_(l-1)):  first half the encoder's input,    second half the gradient at the decoder's output
    above (2B, H_l):      first half the gradient at the encoder's output, second half the decoder's input

so that the sum over both uses is one matrix product, dW_l = above^T below, and every activation and gradient is written where it is
needed next. B items a batch (of this process), D values an item.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tiedae_cli.model.activations import ACTIVATIONS, ActivationKind
from tiedae_cli.model.autoencoder import TiedAutoencoder
from tiedae_cli.training.step.parameters import FlatParameters
from tiedae_cli.training.step.penalty import CodePenalty

aten = torch.ops.aten


@dataclass(frozen=True)
class Layer:
    """One of the 2L affine layers; its buffers are views into those of the weights."""

    weight: Tensor
    """(inputs, outputs), as the product ``input @ weight`` takes it."""
    bias: Tensor
    bias_gradient: Tensor
    input: Tensor
    """(B, inputs)"""
    output: Tensor
    """(B, outputs), where the next layer reads."""
    gradient: Tensor
    """(B, outputs), where the weight's product reads; may share memory with ``output`` at the last layer."""
    activation: ActivationKind
    preactivation: Tensor
    """(B, outputs); the same memory as ``output`` unless the activation keeps its input."""

    def forward(self) -> None:
        """Compute the output from the input."""
        torch.addmm(self.bias, self.input, self.weight, out=self.preactivation)
        self.activation.forward(self.preactivation, self.output)


class Gradient:
    """The gradient of the loss for one batch, into ``parameters.gradient``.

    Args:
        model: the autoencoder whose parameters live in ``parameters``.
        parameters: the flat parameters.
        batch_size: B, items of this process.
        loss: ``squared_error``, (1 / n) sum (y - x)^2; ``mse``, the same divided by D; ``cross_entropy``,
            -(1 / n) sum x log y + (1 - x) log (1 - y).
        items: n, the items that the mean is taken over: B times the number of processes.
        penalty: what the loss adds on the code; None for nothing.
        corrupted: the input gets a buffer apart from the target.
    """

    def __init__(
        self,
        model: TiedAutoencoder,
        parameters: FlatParameters,
        batch_size: int,
        loss: str,
        items: int,
        penalty: CodePenalty | None = None,
        corrupted: bool = False,
    ) -> None:
        self.penalty = penalty
        self.parameters = parameters
        self.half = batch_size
        self.sizes = model.sizes
        new = parameters.compute.new_zeros
        self.below = [new(2 * batch_size, inputs) for inputs in model.sizes[:-1]]
        self.above = [new(2 * batch_size, outputs) for outputs in model.sizes[1:]]
        self.input = self.below[0][:batch_size]  # (B, D): the batch is written here
        # (B, D): what the reconstruction is compared with
        self.target = torch.zeros_like(self.input) if corrupted else self.input
        # Sigmoid and cross-entropy together: the gradient at the pre-activation is y - x, the activation's derivative cancels.
        self.skips_output_derivative = loss == "cross_entropy"
        factor = {"mse": 2 / model.sizes[0], "squared_error": 2.0, "cross_entropy": 1.0}[loss] / items
        self.factor = parameters.compute.new_tensor(factor)  # a tensor: a Python number would become one in each step
        self.layers = self._layers(model)
        self.code_layer = self.layers[len(self.sizes) - 2]
        self.weight_products = self._weight_products(model)

    def _layers(self, model: TiedAutoencoder) -> list[Layer]:
        half, depth = self.half, len(model.layers)
        values, gradients = (
            self.parameters.views(flat) for flat in (self.parameters.compute, self.parameters.compute_gradient)
        )
        layers = []
        for i, layer in enumerate(model.layers):
            weight, bias = (f"layers.{i}.{name}" for name in layer.names("encoder"))
            layers.append(
                _layer(
                    layer.activation,
                    values[weight].t(),
                    values[bias],
                    gradients[bias],
                    input=self.below[i][:half],
                    output=self.below[i + 1][:half] if i + 1 < depth else self.above[i][half:],
                    gradient=self.above[i][:half],
                )
            )
        for i, layer in reversed(list(enumerate(model.layers))):
            keeps_output = i == 0 and layer.decoder_activation != "linear" and not self.skips_output_derivative
            reconstruction = torch.zeros_like(self.input) if keeps_output else self.below[0][half:]
            weight, bias = (f"layers.{i}.{name}" for name in layer.names("decoder"))
            layers.append(
                _layer(
                    layer.decoder_activation,
                    values[weight],
                    values[bias],
                    gradients[bias],
                    input=self.above[i][half:],
                    output=self.above[i - 1][half:] if i else reconstruction,
                    gradient=self.below[i][half:],
                )
            )
        return layers

    def _weight_products(self, model: TiedAutoencoder) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Return (left, right, out) of each product that gives a weight's gradient: one a tied weight, two an untied pair."""
        gradients, half = self.parameters.views(self.parameters.compute_gradient), self.half
        products = []
        for i, (layer, above, below) in enumerate(zip(model.layers, self.above, self.below, strict=True)):
            out = gradients[f"layers.{i}.weight"]
            if layer.tied:
                products.append((above.t(), below, out))
            else:
                products.append((above[:half].t(), below[:half], out))
                products.append((above[half:].t(), below[half:], gradients[f"layers.{i}.decoder_weight"]))
        return products

    def run(self) -> Tensor:
        """Compute the gradient of the batch in ``input``; return its squared error, summed over batch and pixels, a scalar."""
        self.parameters.refresh_compute()
        for layer in self.layers[:-1]:
            layer.forward()
            if layer is self.code_layer and self.penalty is not None:
                self.penalty.forward(layer.output)
        last = self.layers[-1]
        difference = self._difference(last).view(-1)  # (B, D) -> (B D)
        squared_error = _sum_of_squares(difference)
        difference.mul_(self.factor)
        if not self.skips_output_derivative:
            last.activation.backward(last.gradient, last.preactivation)
        torch.sum(last.gradient, 0, out=last.bias_gradient)
        for layer, before in zip(reversed(self.layers), reversed(self.layers[:-1]), strict=False):
            torch.mm(layer.gradient, layer.weight.t(), out=before.gradient)  # (B, outputs) -> (B, inputs)
            if before is self.code_layer and self.penalty is not None:
                self.penalty.backward(before.output, before.gradient)
            before.activation.backward(before.gradient, before.preactivation)
            torch.sum(before.gradient, 0, out=before.bias_gradient)
        for left, right, out in self.weight_products:
            torch.mm(left, right, out=out)
        self.parameters.collect_gradient()
        return squared_error

    def _difference(self, last: Layer) -> Tensor:
        """Compute the reconstruction less the target, (B, D), into the last layer's gradient."""
        if last.activation is ACTIVATIONS["linear"]:
            # The product is added to bias - target: one pass over the batch instead of two.
            return torch.sub(last.bias, self.target, out=last.gradient).addmm_(last.input, last.weight)
        last.forward()
        return torch.sub(last.output, self.target, out=last.gradient)


def _layer(
    name: str, weight: Tensor, bias: Tensor, bias_gradient: Tensor, *, input: Tensor, output: Tensor, gradient: Tensor
) -> Layer:
    activation = ACTIVATIONS[name]
    preactivation = torch.zeros_like(output) if activation.keeps_input else output
    return Layer(weight, bias, bias_gradient, input, output, gradient, activation, preactivation)


def _sum_of_squares(difference: Tensor) -> Tensor:
    if difference.dtype == torch.bfloat16:
        norm: Tensor = torch.linalg.vector_norm(difference, dtype=torch.float32)
        return norm.square()
    return torch.dot(difference, difference)
