"""Forward and backward of the tied autoencoder by hand, into buffers that are made once.

Autograd would compute the two gradients of a tied weight apart and add them. Here each weight W_l owns two buffers,

    below (2B, inputs):   first half the encoder's input,    second half the gradient at the decoder's output
    above (2B, outputs):  first half the gradient at the encoder's output, second half the decoder's input

so that the sum over both uses is one call over the 2B pairs of both, whatever kind of layer W_l is (of a dense one it is the matrix
product above^T below), and every activation and gradient is written where it is needed next. B items a batch (of this process), D values
an item; a layer has its inputs and outputs in shapes of its own, (B, *shape).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tiedae_cli.config import Loss, TrainingConfig
from tiedae_cli.model.activations import ACTIVATIONS, ActivationKind
from tiedae_cli.model.autoencoder import TiedAutoencoder
from tiedae_cli.model.layers import Layer
from tiedae_cli.training.step.losses import LOSSES
from tiedae_cli.training.step.parameters import FlatParameters
from tiedae_cli.training.step.penalty import PENALTIES, CodePenalty

Product = Callable[[Tensor, Tensor, Tensor | None, Tensor | None], Tensor]


@dataclass
class Half:
    """One of the 2L affine maps with its activation; its buffers are views into those of the weights."""

    product: Product
    """W x + b of an encoder's half, W^T h + c of a decoder's."""
    adjoint: Product
    """The other one: carries the gradient at the output to the input."""
    weight: Tensor
    bias: Tensor
    bias_gradient: Tensor
    input: Tensor
    """(B, *inputs)"""
    output: Tensor
    """(B, *outputs), where the next half reads, in the shape of the layer nearer to the image."""
    gradient: Tensor
    """(B, *outputs), where the weight's product reads; may share memory with ``output`` at the last half."""
    activation: ActivationKind
    scratch: Tensor | None
    """Where the product may write; None: into new memory."""
    preactivation: Tensor
    """(B, *outputs), of the newest batch; where the product fills given memory, always the same view of it."""

    def __post_init__(self) -> None:
        """Make the views that every step needs: small calls between two products cost ten times their time alone."""
        same = self.gradient.shape == self.output.shape  # then no view: of one item it may have other strides
        self.gradient_as_output = self.gradient if same else self.gradient.view(self.output.shape)
        self.bias_dimensions = [0, *range(2, self.gradient.dim())]
        self.fills = False  # whether the gradient at the input goes straight to where the half before reads it
        if self.scratch is not None:
            self.preactivation = self.scratch.view(self.output.shape)
        assert self.activation.forward and self.activation.backward, "no hand-written derivative: see missing_derivative"
        self.activate, self.derive = self.activation.forward, self.activation.backward

    def forward(self) -> None:
        """Compute the output from the input."""
        product = self.product(self.input, self.weight, self.bias, self.scratch)
        if self.scratch is None:
            self.preactivation = product.view(self.output.shape)
        self.activate(self.preactivation, self.output)

    def backward(self, gradient: Tensor) -> None:
        """Turn the gradient at the output into that at the pre-activation, and sum that for the bias."""
        kept = self.preactivation if self.activation.keeps_input else self.output
        self.derive(gradient, kept, self.gradient_as_output)
        self.sum_bias()

    def sum_bias(self) -> None:
        """Compute the bias's gradient: the sum over all but its own dimension."""
        torch.sum(self.gradient, self.bias_dimensions, out=self.bias_gradient)


class Gradient:
    """The gradient of the loss for one batch, into ``parameters.gradient``.

    Args:
        model: the autoencoder whose parameters live in ``parameters``.
        parameters: the flat parameters.
        batch_size: B, items of this process.
        loss: ``squared_error``, (1 / n) sum (y - x)^2; ``mse``, the same divided by D; ``cross_entropy``,
            -(1 / n) sum x log y + (1 - x) log (1 - y).
        cross_entropy_weight: w; adds w times the cross-entropy to the other two, divided as they are.
        items: n, the items that the mean is taken over: B times the number of processes.
        penalty: what the loss adds on the code; None for nothing.
        corrupted: the input gets a buffer apart from the target.
    """

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
        self.penalty = penalty
        self.parameters = parameters
        self.half = batch_size
        like = parameters.compute
        self.below = [layer.buffer(2 * batch_size, layer.input_shape, like) for layer in model.layers]
        self.above = [layer.buffer(2 * batch_size, layer.output_shape, like) for layer in model.layers]
        first, size = self.below[0][:batch_size], model.sizes[0]
        # (B, D): the batch is written here; where the first layer lays its images out in another order, it is copied there.
        self.input = first.view(batch_size, size) if first.is_contiguous() else like.new_zeros(batch_size, size)
        self.first = first
        # (B, D): what the reconstruction is compared with
        self.target = torch.zeros_like(self.input) if corrupted else self.input
        self.compared = self.target.view(first.shape) if corrupted else first
        # Sigmoid and cross-entropy together: the gradient at the pre-activation is y - x, the activation's derivative cancels.
        kind = LOSSES[loss]
        assert kind.slope is not None, "no hand-written derivative: see missing_derivative"
        self.skips_output_derivative = kind.at_preactivation
        factor = (kind.slope / size if kind.per_value else kind.slope) / items
        self.factor = parameters.compute.new_tensor(factor)  # a tensor: a Python number would become one in each step
        # (y - x)^2 and w times the cross-entropy have the gradient 2 (y - x) (y' + w / 2) at the pre-activation.
        self.leak = cross_entropy_weight / 2
        self.leaked = like.new_zeros(batch_size * size if self.leak else 0)
        self.halves = self._encoder(model) + self._decoder(model)
        self.code = self.halves[len(model.layers) - 1]
        self.last_layer = model.layers[0]
        self.weight_gradients = self._weight_gradients(model)
        self.backwards = list(zip(reversed(self.halves), reversed(self.halves[:-1]), strict=False))
        for half, before in self.backwards:
            half.fills = half.scratch is not None and before.gradient.shape == half.input.shape

    def _encoder(self, model: TiedAutoencoder) -> list[Half]:
        half, depth, halves = self.half, len(model.layers), []
        for i, layer in enumerate(model.layers):
            following = self.below[i + 1][:half] if i + 1 < depth else self.above[i][half:]
            output, gradient = following.view(-1, *layer.output_shape), self.above[i][:half]
            halves.append(self._half(i, layer, "encoder", self.below[i][:half], output, gradient))
        return halves

    def _decoder(self, model: TiedAutoencoder) -> list[Half]:
        half, halves = self.half, []
        for i, layer in reversed(list(enumerate(model.layers))):
            gradient = self.below[i][half:]
            output = self.above[i - 1][half:] if i else gradient
            if i == 0 and layer.decoder_activation != "linear" and not self.skips_output_derivative:
                output = torch.zeros_like(gradient)  # the derivative needs it beside the gradient
            halves.append(self._half(i, layer, "decoder", self.above[i][half:], output, gradient))
        return halves

    def _half(self, index: int, layer: Layer, part: str, input: Tensor, output: Tensor, gradient: Tensor) -> Half:
        values, gradients = (
            self.parameters.views(flat) for flat in (self.parameters.compute, self.parameters.compute_gradient)
        )
        weight, bias = (f"layers.{index}.{name}" for name in layer.names(part))
        products = (layer.product, layer.transposed_product)
        product, adjoint = products if part == "encoder" else reversed(products)
        activation = ACTIVATIONS[layer.activation if part == "encoder" else layer.decoder_activation]
        scratch = None
        if layer.fills_given_memory:
            fits = output.shape == gradient.shape and not activation.keeps_input
            scratch = output if fits else torch.zeros_like(gradient)
        return Half(
            product,
            adjoint,
            values[weight],
            values[bias],
            gradients[bias],
            input,
            output,
            gradient,
            activation,
            scratch,
            preactivation=output,
        )

    def _weight_gradients(self, model: TiedAutoencoder) -> list[tuple[Layer, Tensor, Tensor, Tensor]]:
        """Return (layer, below, above, out) of each weight's gradient: one over both uses of a tied weight, one each of untied ones."""
        gradients, half = self.parameters.views(self.parameters.compute_gradient), self.half
        products = []
        for i, (layer, below, above) in enumerate(zip(model.layers, self.below, self.above, strict=True)):
            out = gradients[f"layers.{i}.weight"]
            if layer.tied:
                products.append((layer, below, above, out))
            else:
                products.append((layer, below[:half], above[:half], out))
                products.append((layer, below[half:], above[half:], gradients[f"layers.{i}.decoder_weight"]))
        return products

    def run(self) -> Tensor:
        """Compute the gradient of the batch in ``input``; return its squared error, summed over batch and pixels, a scalar."""
        self.parameters.refresh_compute()
        if self.input.data_ptr() != self.first.data_ptr():
            self.first.copy_(self.input.view(self.first.shape))
        for half in self.halves[:-1]:
            half.forward()
            if half is self.code and self.penalty is not None:
                self.penalty.forward(half.output)
        last = self.halves[-1]
        difference = _in_memory_order(self._difference(last))  # (B, *shape) -> (B D)
        squared_error = _sum_of_squares(difference)
        difference.mul_(self.factor)
        if self.skips_output_derivative:
            last.sum_bias()
        elif self.leak:
            torch.mul(difference, self.leak, out=self.leaked)
            last.derive(last.gradient, last.output, last.gradient_as_output)
            difference.add_(self.leaked)
            last.sum_bias()
        else:
            last.backward(last.gradient)
        for half, before in self.backwards:
            if half.fills:
                half.adjoint(half.gradient, half.weight, None, before.gradient)
                gradient = before.gradient_as_output
            else:
                gradient = half.adjoint(half.gradient, half.weight, None, None).view(before.output.shape)
            if before is self.code and self.penalty is not None:
                self.penalty.backward(before.output, gradient)
            before.backward(gradient)
        for layer, below, above, out in self.weight_gradients:
            layer.weight_gradient(below, above, out)
        self.parameters.collect_gradient()
        return squared_error

    def _difference(self, last: Half) -> Tensor:
        """Compute the reconstruction less the target, (B, *shape), into the last half's gradient."""
        if last.activation is ACTIVATIONS["linear"]:
            return self.last_layer.transposed_difference(last.input, last.weight, last.bias, self.compared, last.gradient)
        last.forward()
        return torch.sub(last.output, self.compared, out=last.gradient)


def missing_derivative(model: TiedAutoencoder, training: TrainingConfig) -> str | None:
    """Return which layer, activation, loss or penalty has no hand-written derivative, in words; None if all have one."""
    for layer in model.layers:
        if not layer.by_hand:
            return f"the layer {layer.describe()}"
        for name in (layer.activation, layer.decoder_activation):
            if not ACTIVATIONS[name].by_hand:
                return f"the activation {name}"
    if LOSSES[training.loss].slope is None:
        return f"the loss {training.loss}"
    if training.sparsity != "none" and PENALTIES[training.sparsity].gradient is None:
        return f"the penalty {training.sparsity}"
    return None


def _in_memory_order(values: Tensor) -> Tensor:
    """Return all values as one row, without a copy: of images whose channels are last, a pixel's channels stand together."""
    return values.view(-1) if values.is_contiguous() else values.permute(0, 2, 3, 1).view(-1)


def _sum_of_squares(difference: Tensor) -> Tensor:
    if difference.dtype == torch.bfloat16:
        norm: Tensor = torch.linalg.vector_norm(difference, dtype=torch.float32)
        return norm.square()
    return torch.dot(difference, difference)
