"""The hand-written gradient with fused kernels between its products; for CUDA, imported only if Triton is installed.

B items per batch, D values per item, N units of a layer.
"""

from dataclasses import fields
from functools import partial

import torch
from torch import Tensor

from tiedae_cli.config import Loss
from tiedae_cli.model.activations import ACTIVATIONS, ActivationKind
from tiedae_cli.model.autoencoder import TiedAutoencoder
from tiedae_cli.model.layers import Layer
from tiedae_cli.model.products import Call
from tiedae_cli.training.step import fused_kernels as kernels
from tiedae_cli.training.step.gradient import Gradient, Half
from tiedae_cli.training.step.parameters import FlatParameters
from tiedae_cli.training.step.path_gradient import PathGradient
from tiedae_cli.training.step.penalty import CodePenalty

LARGEST_BATCH = 1024  # beyond it a sum over the batch by one program takes longer than the launches that it saves


class FusedHalf(Half):
    """A hidden half of a dense layer: bias and activation are one kernel, the derivative and the sum for the bias another."""

    def __post_init__(self) -> None:
        """Look up the activation's kernel."""
        super().__post_init__()
        self.name = _name(self.activation)

    def forward(self) -> list[Call]:
        """Return the calls that compute the output from the input."""
        return self.layer.prepared(self.part, self.input, self.weight, None, self.scratch).then(self._activation)

    def _activation(self, product: Tensor) -> list[Call]:
        self.preactivation = product
        return [partial(kernels.activate, product, self.bias, self.output, self.name, self.activation.keeps_input)]

    def backward(self, gradient: Tensor) -> list[Call]:
        """Return the call that computes the gradients of the pre-activation and the bias from that of the output."""
        kept = self.preactivation if self.activation.keeps_input else self.output
        return [partial(kernels.derive, gradient, kept, self.gradient, self.bias_gradient, self.name)]


class FusedGradient(Gradient):
    """``Gradient`` with one kernel after each product instead of several operations.

    Convolutions, layers without an activation, and a linear path beside convolutions or with a penalty keep the operations of
    ``Gradient``.

    Attributes:
        clock: advanced by each ``run``; None for none.
        sums: (programs,) float32, parts of the batch's squared error.
        fuses_output: whether the output is one kernel too.
        fuses_path: whether there is a linear path in these kernels; in the clock's first step they set the gradients of its code's
            bias and gate to 0.
    """

    fused = True

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
        super().__init__(model, parameters, batch_size, loss, items, penalty, corrupted, cross_entropy_weight)
        last = self.halves[-1]
        self.fuses_path = self.path is not None and _is_fusible(last) and _is_fusible(self.code) and penalty is None
        self.fuses_output = self.fuses_path or (self.path is None and _is_fusible(last))
        self.clock: kernels.Clock | None = None
        self.sums = parameters.master.new_zeros(kernels.output_programs(model.sizes[0]))
        self.output_name = _name(last.activation)

    def _half(self, index: int, layer: Layer, part: str, input: Tensor, output: Tensor, gradient: Tensor) -> Half:
        half = super()._half(index, layer, part, input, output, gradient)
        last = part == "decoder" and index == 0
        if last or half.activation is ACTIVATIONS["linear"] or not _is_fusible(half):
            return half
        return FusedHalf(*(getattr(half, field.name) for field in fields(half)))

    def _output(self) -> list[Call]:
        """Do what ``Gradient._output`` does; with a clock, the squared error is ``sums``, which ``kernels.adam`` adds up."""
        last = self.halves[-1]
        if not self.fuses_output:
            return super()._output()
        return last.layer.prepared(last.part, last.input, last.weight, None, last.scratch).then(
            lambda product: [partial(self._finish_output, product)]
        )

    def _finish_output(self, product: Tensor) -> None:
        last = self.halves[-1]
        kernels.output(
            product,
            last.bias,
            self.compared,
            last.gradient,
            last.bias_gradient,
            self.sums,
            self.clock,
            self.factor_number,
            None if self.skips_output_derivative else self.leak,
            self.output_name,
            last.activation.keeps_input,
        )
        self.errors.value = self.sums if self.clock is not None else self.sums.sum()

    def _finish_code(self, code: Half) -> list[Call]:
        """Do what ``Gradient._finish_code`` does."""
        if self.path is None or not self.fuses_path:
            return super()._finish_code(code)
        path, decoder_input = self.path, self.above[-1][self.half :]
        return path.layer.prepared("encoder", path.input, path.weight, None, path.code).then(
            lambda product: [
                partial(kernels.path_code, product, path.bias, path.code_gate, path.encoded, path.code, decoder_input)
            ]
        )

    def _path_output(self, path: PathGradient) -> list[Call]:
        """Do what ``Gradient._path_output`` does; the squared error is that of ``_output``."""
        last = self.halves[-1]
        if not self.fuses_path:
            return super()._path_output(path)
        network = last.layer.prepared(last.part, last.input, last.weight, None, last.scratch)
        linear = path.layer.prepared("decoder", path.code, path.transposed, None, path.output)
        return network.then(
            lambda decoded: linear.then(lambda product: [partial(self._finish_path_output, path, decoded, product)])
        )

    def _finish_path_output(self, path: PathGradient, decoded: Tensor, product: Tensor) -> None:
        last = self.halves[-1]
        buffers = kernels.PathOutput(
            decoded,
            last.bias,
            product,
            path.decoder_bias,
            path.output_gate,
            self.target,
            path.gradient,
            last.gradient,
            path.decoder_bias_gradient,
            path.gradients["output_gate"],
            last.bias_gradient,
        )
        kernels.path_output(buffers, self.sums, self.clock, self.factor_number, _name(path.activation))
        self.errors.value = self.sums if self.clock is not None else self.sums.sum()

    def _code_backward(self, code: Half, gradient: Tensor) -> list[Call]:
        """Do what ``Gradient._code_backward`` does."""
        if self.path is None or not self.fuses_path:
            return super()._code_backward(code, gradient)
        path = self.path
        return path.layer.prepared("encoder", path.gradient, path.transposed, None, path.code_gradient).then(
            lambda total: [partial(self._finish_code_backward, path, total, gradient)]
        )

    def _finish_code_backward(self, path: PathGradient, total: Tensor, gradient: Tensor) -> None:
        gradients = (path.bias_gradient, path.gradients["code_gate"])
        kernels.path_code_gradient(total, gradient, path.encoded, path.code_gate, *gradients, self.clock)


def _is_fusible(half: Half) -> bool:
    """Return whether the kernels know the activation and the memory of a half."""
    dense = half.scratch is not None and half.output.dim() == 2 and half.output.shape == half.gradient.shape
    contiguous = all(buffer.is_contiguous() for buffer in (half.output, half.gradient, half.bias))
    known = half.gradient.dtype in (torch.float32, torch.bfloat16) and _name(half.activation) in kernels.ACTIVATIONS
    return dense and contiguous and known


def _name(activation: ActivationKind) -> str:
    return next(name for name, kind in ACTIVATIONS.items() if kind is activation)
