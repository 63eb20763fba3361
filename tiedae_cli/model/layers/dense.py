"""The dense layer: W is a matrix."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from tiedae_cli.config import Activation
from tiedae_cli.model.activations import AnyActivation
from tiedae_cli.model.layers.layer import Layer
from tiedae_cli.model.products import Call, Prepared, prepare


class Dense(Layer):
    """W x is the product with a matrix W, (O, I); W^T h is the product with its transpose.

    Args:
        inputs: I.
        outputs: O.
        activation: name of the encoder's activation.
        decoder_activation: name of the decoder's activation.
        tied: whether ``decode`` uses W; else it has a weight of its own.
    """

    def __init__(
        self, inputs: int, outputs: int, activation: Activation, decoder_activation: AnyActivation, tied: bool
    ) -> None:
        super().__init__((inputs,), (outputs,), (outputs, inputs), activation, decoder_activation, tied)

    def describe(self) -> str:
        """Return the layer as written in the config."""
        return f"dense {self.outputs}"

    def fan_in(self, part: str) -> float:
        """Return I for the encoder, O for the decoder."""
        return self.inputs if part == "encoder" else self.outputs

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return W x + b, (B, I) -> (B, O)."""
        return torch.mm(x, weight.t()) if bias is None else torch.addmm(bias, x, weight.t())

    def transposed_product(self, h: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return W^T h + c, (B, O) -> (B, I)."""
        return torch.mm(h, weight) if bias is None else torch.addmm(bias, h, weight)

    def weight_gradient(self, below: Tensor, above: Tensor, out: Tensor) -> None:
        """Write above^T below, (O, I)."""
        for call in self.prepared_weight_gradient(below, above, out):
            call()

    def prepared(self, part: str, values: Tensor, weight: Tensor, bias: Tensor | None, memory: Tensor | None) -> Prepared:
        """Prepare W x + b or W^T h + c, by the faster library."""
        if memory is None:
            return super().prepared(part, values, weight, bias, memory)
        return prepare(values, weight.t() if part == "encoder" else weight, memory, bias)

    def prepared_difference(self, h: Tensor, weight: Tensor, bias: Tensor, target: Tensor, out: Tensor) -> list[Call]:
        """Prepare W^T h + c - target; torch's own product adds to c - target, which saves reading the result again."""
        if prepare(h, weight, out).result is None:
            return super().prepared_difference(h, weight, bias, target, out)
        return [partial(torch.sub, bias, target, out=out), partial(torch.addmm, out, h, weight, out=out)]

    def prepared_weight_gradient(self, below: Tensor, above: Tensor, out: Tensor) -> list[Call]:
        """Prepare above^T below, (O, I)."""
        return prepare(above.t(), below, out).into(out)

    def operator(self, part: str) -> tuple[str, dict[str, Any]]:
        """Return ONNX's Gemm, which transposes the weight for the encoder."""
        return "Gemm", {"transB": int(part == "encoder")}
