"""The hand-written gradient with fused kernels between its products; for CUDA, imported only if Triton is installed.

B items per batch, D values per item, N units of a layer.
"""

from dataclasses import fields

import torch
from torch import Tensor

from tiedae_cli.config import Loss
from tiedae_cli.model.activations import ACTIVATIONS, ActivationKind
from tiedae_cli.model.autoencoder import TiedAutoencoder
from tiedae_cli.model.layers import Layer
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

    def forward(self) -> None:
        """Compute the output from the input."""
        product = self.product(self.input, self.weight, None, self.scratch)
        kernels.activate(product, self.bias, self.output, self.name, self.activation.keeps_input)

    def backward(self, gradient: Tensor) -> None:
        """Compute the gradients of the pre-activation and the bias from that of the output."""
        kept = self.preactivation if self.activation.keeps_input else self.output
        kernels.derive(gradient, kept, self.gradient, self.bias_gradient, self.name)


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

    def _output(self) -> Tensor:
        """Do what ``Gradient._output`` does; with a clock, the result is ``sums``, which ``kernels.adam`` adds up."""
        if not self.fuses_output:
            return super()._output()
        last = self.halves[-1]
        kernels.output(
            last.product(last.input, last.weight, None, last.scratch),
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
        return self.sums if self.clock is not None else self.sums.sum()

    def _finish_code(self, code: Half) -> None:
        """Do what ``Gradient._finish_code`` does."""
        if self.path is None or not self.fuses_path:
            return super()._finish_code(code)
        path = self.path
        product = path.layer.product(path.input, path.weight, None, path.code)
        kernels.path_code(product, path.bias, path.code_gate, path.encoded, path.code, self.above[-1][self.half :])

    def _path_output(self, path: PathGradient) -> Tensor:
        """Do what ``Gradient._path_output`` does; the result is that of ``_output``."""
        if not self.fuses_path:
            return super()._path_output(path)
        last = self.halves[-1]
        buffers = kernels.PathOutput(
            last.product(last.input, last.weight, None, last.scratch),
            last.bias,
            path.layer.transposed_product(path.code, path.transposed, None, path.output),
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
        return self.sums if self.clock is not None else self.sums.sum()

    def _code_backward(self, code: Half, gradient: Tensor) -> Tensor:
        """Do what ``Gradient._code_backward`` does."""
        if self.path is None or not self.fuses_path:
            return super()._code_backward(code, gradient)
        path = self.path
        path.layer.product(path.gradient, path.transposed, None, path.code_gradient)
        gradients = (path.bias_gradient, path.gradients["code_gate"])
        kernels.path_code_gradient(path.code_gradient, gradient, path.encoded, path.code_gate, *gradients, self.clock)
        return gradient


def _is_fusible(half: Half) -> bool:
    """Return whether the kernels know the activation and the memory of a half."""
    dense = half.scratch is not None and half.output.dim() == 2 and half.output.shape == half.gradient.shape
    contiguous = all(buffer.is_contiguous() for buffer in (half.output, half.gradient, half.bias))
    known = half.gradient.dtype in (torch.float32, torch.bfloat16) and _name(half.activation) in kernels.ACTIVATIONS
    return dense and contiguous and known


def _name(activation: ActivationKind) -> str:
    return next(name for name, kind in ACTIVATIONS.items() if kind is activation)
