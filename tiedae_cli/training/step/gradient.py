"""Hand-written forward and backward pass of the tied autoencoder, in reusable buffers.

Autograd would compute the two gradients of a tied weight separately and add them. Here each weight W_l has two buffers,

    below (2B, inputs):   first half the encoder's input,    second half the gradient of the decoder's output
    above (2B, outputs):  first half the gradient of the encoder's output, second half the decoder's input

so the sum over both uses is one call over 2B pairs (for a dense layer the matrix product above^T below), and every activation and
gradient is written to the place that needs it next.

Shapes: B items per batch (of this process), D values per item; layers use their own shapes, (B, *shape).
"""

from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from tiedae_cli.config import Loss, TrainingConfig
from tiedae_cli.model.activations import ACTIVATIONS, ActivationKind
from tiedae_cli.model.autoencoder import TiedAutoencoder
from tiedae_cli.model.layers import Layer
from tiedae_cli.model.products import Call, Prepared
from tiedae_cli.training.step.losses import LOSSES
from tiedae_cli.training.step.parameters import FlatParameters
from tiedae_cli.training.step.path_gradient import PathGradient
from tiedae_cli.training.step.penalty import PENALTIES, CodePenalty
from tiedae_cli.training.step.recorded_calls import RecordedCalls

LARGEST_RECORDED = 2e9  # FLOP of a step


@dataclass
class Half:
    """One of the 2L affine maps with its activation; its buffers are views of the weights' buffers."""

    layer: Layer
    part: str
    """``encoder``: W x + b; ``decoder``: W^T h + c."""
    weight: Tensor
    bias: Tensor
    bias_gradient: Tensor
    input: Tensor
    """(B, *inputs)"""
    output: Tensor
    """(B, *outputs), read by the next half, in the shape of the layer closer to the image."""
    gradient: Tensor
    """(B, *outputs), read by the weight's gradient; the last half may share it with ``output``."""
    activation: ActivationKind
    scratch: Tensor | None
    """Memory for the product; None: new memory."""

    def __post_init__(self) -> None:
        """Make the views that every step needs, because small calls between two products are expensive."""
        same = self.gradient.shape == self.output.shape  # no view: with one item the strides may differ
        self.gradient_as_output = self.gradient if same else self.gradient.view(self.output.shape)
        self.bias_dimensions = [0, *range(2, self.gradient.dim())]
        self.preactivation = self.output  # (B, *outputs), of the newest batch
        assert self.activation.forward and self.activation.backward, "no hand-written derivative: see missing_derivative"
        self.activate, self.derive = self.activation.forward, self.activation.backward

    def forward(self) -> list[Call]:
        """Return the calls that compute the output from the input."""
        return self.layer.prepared(self.part, self.input, self.weight, self.bias, self.scratch).then(self._activation)

    def _activation(self, product: Tensor) -> list[Call]:
        self.preactivation = product.view(self.output.shape)
        return [partial(self.activate, self.preactivation, self.output)]

    def backward(self, gradient: Tensor) -> list[Call]:
        """Return the calls that compute the gradients of the pre-activation and the bias from that of the output."""
        if gradient.shape != self.output.shape:
            gradient = gradient.view(self.output.shape)
        if self.activation.keeps_input:
            return [partial(self._derive_from_input, gradient), self.bias_sum()]
        return [partial(self.derive, gradient, self.output, self.gradient_as_output), self.bias_sum()]

    def _derive_from_input(self, gradient: Tensor) -> None:
        self.derive(gradient, self.preactivation, self.gradient_as_output)  # which may be in new memory in each step

    def bias_sum(self) -> Call:
        """Return the call that computes the gradient of the bias: the sum over all dimensions but its own."""
        return partial(torch.sum, self.gradient, self.bias_dimensions, out=self.bias_gradient)

    def input_gradient(self, memory: Tensor | None) -> Prepared:
        """Prepare the gradient of the input from that of the pre-activation."""
        other = "decoder" if self.part == "encoder" else "encoder"
        return self.layer.prepared(other, self.gradient, self.weight, None, memory)


@dataclass
class ErrorSum:
    """The squared error of the newest batch, summed over batch and values: a scalar."""

    value: Tensor

    def sum(self, difference: Tensor) -> None:
        """Sum the squares of the differences, (B D)."""
        if difference.dtype == torch.bfloat16:
            norm: Tensor = torch.linalg.vector_norm(difference, dtype=torch.float32)
            self.value = norm.square()
        else:
            self.value = torch.dot(difference, difference)


class Gradient:
    """The gradient of the loss for one batch, in ``parameters.gradient``.

    Args:
        model: the autoencoder that owns ``parameters``.
        parameters: the flat parameters.
        batch_size: B, items of this process.
        loss: ``squared_error``, (1 / n) sum (y - x)^2; ``mse``, the same divided by D; ``cross_entropy``,
            -(1 / n) sum x log y + (1 - x) log (1 - y).
        cross_entropy_weight: w; adds w times the cross-entropy to the other two, divided as they are.
        items: n, the items of the mean: those of the global batch.
        penalty: penalty on the code; None for none.
        corrupted: whether the input needs a buffer apart from the target.
    """

    fused = False  # whether it is a ``FusedGradient``

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
        self.path = None if model.path is None else PathGradient(model.path, parameters, batch_size)
        # (B, D): buffer for the batch; copied to the first layer's buffer if that has another memory layout.
        self.input = first.view(batch_size, size) if first.is_contiguous() else like.new_zeros(batch_size, size)
        if self.path is not None:
            self.input = self.path.input
        self.first, self.copies_input = first, self.path is not None or not first.is_contiguous()
        # (B, D): target of the reconstruction
        self.target = torch.zeros_like(self.input) if corrupted else self.input
        self.compared = self.target.view(first.shape) if corrupted else first
        # Sigmoid and cross-entropy: the gradient of the pre-activation is y - x, the activation's derivative cancels.
        kind = LOSSES[loss]
        assert kind.slope is not None, "no hand-written derivative: see missing_derivative"
        self.skips_output_derivative = kind.at_preactivation
        factor = (kind.slope / size if kind.per_value else kind.slope) / items
        self.factor_number = factor
        self.factor = parameters.compute.new_tensor(factor)  # a tensor, because a Python number would be converted in each step
        # (y - x)^2 and w times the cross-entropy have the gradient 2 (y - x) (y' + w / 2) of the pre-activation.
        self.leak = cross_entropy_weight / 2
        self.leaked = like.new_zeros(batch_size * size if self.leak else 0)
        self.halves = self._encoder(model) + self._decoder(model)
        self.code = self.halves[len(model.layers) - 1]
        self.weight_gradients = self._weight_gradients(model)
        on_cpu = parameters.master.device.type == "cpu" and not self.fused
        # A penalty may exchange sums between processes; in a large step there is little Python to save.
        self.records = on_cpu and penalty is None and batch_size * model.training_work <= LARGEST_RECORDED
        self.errors = ErrorSum(parameters.master.new_zeros(()))

    def _encoder(self, model: TiedAutoencoder) -> list[Half]:
        half, depth, halves = self.half, len(model.layers), []
        for i, layer in enumerate(model.layers):
            following = self.below[i + 1][:half] if i + 1 < depth else self.above[i][half:]
            if i + 1 == depth and self.path is not None:
                following = self.path.encoded
            output, gradient = following.view(-1, *layer.output_shape), self.above[i][:half]
            halves.append(self._half(i, layer, "encoder", self.below[i][:half], output, gradient))
        return halves

    def _decoder(self, model: TiedAutoencoder) -> list[Half]:
        half, halves = self.half, []
        for i, layer in reversed(list(enumerate(model.layers))):
            gradient = self.below[i][half:]
            output = self.above[i - 1][half:] if i else gradient
            derives = layer.decoder_activation != "linear" and not self.skips_output_derivative
            if i == 0 and (derives or self.path is not None):
                output = torch.zeros_like(gradient)  # the derivative needs both output and gradient
            halves.append(self._half(i, layer, "decoder", self.above[i][half:], output, gradient))
        return halves

    def _half(self, index: int, layer: Layer, part: str, input: Tensor, output: Tensor, gradient: Tensor) -> Half:
        values, gradients = (
            self.parameters.views(flat) for flat in (self.parameters.compute, self.parameters.compute_gradient)
        )
        weight, bias = (f"layers.{index}.{name}" for name in layer.names(part))
        activation = ACTIVATIONS[layer.activation if part == "encoder" else layer.decoder_activation]
        scratch = None
        if layer.fills_given_memory:
            fits = output.shape == gradient.shape and not activation.keeps_input
            scratch = output if fits else torch.zeros_like(gradient)
        return Half(
            layer,
            part,
            values[weight],
            values[bias],
            gradients[bias],
            input,
            output,
            gradient,
            activation,
            scratch,
        )

    def _weight_gradients(self, model: TiedAutoencoder) -> list[tuple[Layer, Tensor, Tensor, Tensor]]:
        """Return (layer, below, above, out) of each weight's gradient: one over both uses of a tied weight, two for an untied one."""
        gradients, half = self.parameters.views(self.parameters.compute_gradient), self.half
        products = []
        for i, (layer, below, above) in enumerate(zip(model.layers, self.below, self.above, strict=True)):
            out = gradients[f"layers.{i}.weight"]
            if layer.tied:
                products.append((layer, below, above, out))
            else:
                products.append((layer, below[:half], above[:half], out))
                products.append((layer, below[half:], above[half:], gradients[f"layers.{i}.decoder_weight"]))
        return products if self.path is None else [*products, *self._path_weight_gradients(self.path)]

    def _path_weight_gradients(self, path: PathGradient) -> list[tuple[Layer, Tensor, Tensor, Tensor]]:
        layer, half, (below, above) = path.layer, self.half, (path.below, path.above)
        out = path.gradients["layer.weight"]
        if layer.tied:
            return [(layer, below, above, out)]
        apart = path.gradients["layer.decoder_weight"]
        return [(layer, below[:half], above[:half], out), (layer, below[half:], above[half:], apart)]

    @cached_property
    def calls(self) -> list[Call]:
        """The gradient of the batch in ``input``, as calls that hold their arguments, but not this object, so that it is freed at once.

        Python between two products is slow, because each product evicts it from the caches; prepared calls make a step 3 to 8% shorter.
        """
        calls: list[Call] = [partial(self.first.copy_, self.input.view(self.first.shape))] if self.copies_input else []
        for half in self.halves[:-1]:
            calls += half.forward()
            if half is self.code:
                calls += self._finish_code(half)
        calls += self._output() if self.path is None else self._path_output(self.path)
        for half, before in zip(reversed(self.halves), reversed(self.halves[:-1]), strict=False):
            fills = half.scratch is not None and before.gradient.shape == half.input.shape
            product = half.input_gradient(before.gradient if fills else None)
            if before is self.code:
                gradient = before.gradient_as_output
                calls += product.into(gradient)
                calls += [*self._code_backward(before, gradient), *before.backward(gradient)]
            else:
                calls += product.then(before.backward)
        for layer, below, above, out in reversed(self.weight_gradients):  # the largest one last: the update reads it first
            calls += layer.prepared_weight_gradient(below, above, out)
        return calls

    @cached_property
    def recorded(self) -> RecordedCalls:
        """``calls``, which return the batch's squared error."""
        return RecordedCalls(self.calls, partial(getattr, self.errors, "value"), self.records)

    def run(self) -> Tensor:
        """Compute the gradient of the batch in ``input``; return its squared error, summed over batch and values, a scalar."""
        self.parameters.refresh_compute()
        error = self.recorded()
        self.parameters.collect_gradient()
        return error

    def _finish_code(self, code: Half) -> list[Call]:
        """Return the calls that add the linear path to the encoder's output, and apply the mask of the penalty."""
        output = code.output
        calls: list[Call] = []
        if self.path is not None:
            output = self.above[-1][self.half :]  # the decoder's input
            calls = [*self.path.encode(), partial(output.copy_, self.path.code)]
        return calls if self.penalty is None else [*calls, partial(self.penalty.forward, output)]

    def _code_backward(self, code: Half, gradient: Tensor) -> list[Call]:
        """Return the calls that turn the network's gradient of the code, (B, ...), into that of the encoder's output, in place."""
        if self.path is None:
            return [] if self.penalty is None else [partial(self.penalty.backward, code.output, gradient)]
        calls = self.path.code_backward(gradient)
        if self.penalty is not None:
            calls.append(partial(self.penalty.backward, self.path.code, self.path.code_gradient))
        return [*calls, *self.path.encoder_backward(gradient)]

    def _path_output(self, path: PathGradient) -> list[Call]:
        """Return the calls that do what those of ``_output`` do for a model with a linear path."""
        last = self.halves[-1]
        calls, difference = last.forward(), path.gradient
        decoded, gradient = last.output, last.gradient
        copies = not (decoded.is_contiguous() and gradient.is_contiguous())  # channels last
        if copies:
            decoded, gradient = (
                torch.zeros_like(buffer, memory_format=torch.contiguous_format) for buffer in (decoded, gradient)
            )
            calls.append(partial(decoded.copy_, last.output))
        decoded, gradient = decoded.view(self.half, -1), gradient.view(self.half, -1)  # (B, D)
        calls += path.decode(decoded, self.target)
        calls += [partial(self.errors.sum, difference.view(-1)), partial(difference.mul_, self.factor)]
        calls += path.output_backward(decoded, gradient)
        if copies:
            calls.append(partial(last.gradient.copy_, gradient.view(last.gradient.shape)))
        return [*calls, last.bias_sum()]

    def _output(self) -> list[Call]:
        """Return the calls that compute the reconstruction, its squared error, and the gradient of the last pre-activation."""
        last = self.halves[-1]
        difference = _in_memory_order(last.gradient)  # (B, *shape) -> (B D)
        calls = self._difference(last)
        calls += [partial(self.errors.sum, difference), partial(difference.mul_, self.factor)]
        if self.skips_output_derivative:
            return [*calls, last.bias_sum()]
        if self.leak:
            return [
                *calls,
                partial(torch.mul, difference, self.leak, out=self.leaked),
                partial(last.derive, last.gradient, last.output, last.gradient_as_output),
                partial(difference.add_, self.leaked),
                last.bias_sum(),
            ]
        return [*calls, *last.backward(last.gradient)]

    def _difference(self, last: Half) -> list[Call]:
        """Return the calls that write reconstruction - target, (B, *shape), to the last half's gradient."""
        if last.activation is ACTIVATIONS["linear"]:
            return last.layer.prepared_difference(last.input, last.weight, last.bias, self.compared, last.gradient)
        return [*last.forward(), partial(torch.sub, last.output, self.compared, out=last.gradient)]


def missing_derivative(model: TiedAutoencoder, training: TrainingConfig) -> str | None:
    """Return which layer, activation, loss or penalty has no hand-written derivative, or None if all have one."""
    for layer in model.layers:
        if not layer.by_hand:
            return f"the layer {layer.describe()}"
        for name in (layer.activation, layer.decoder_activation):
            if not ACTIVATIONS[name].by_hand:
                return f"the activation {name}"
    if model.path is not None and not ACTIVATIONS[model.path.output].by_hand:
        return f"the activation {model.path.output}"
    if LOSSES[training.loss].slope is None:
        return f"the loss {training.loss}"
    if training.sparsity != "none" and PENALTIES[training.sparsity].gradient is None:
        return f"the penalty {training.sparsity}"
    return None


def _in_memory_order(values: Tensor) -> Tensor:
    """Return all values as one row without a copy, in memory order (channels last for some images)."""
    return values.view(-1) if values.is_contiguous() else values.permute(0, 2, 3, 1).view(-1)
