"""The kinds of layers: each is a weight that encodes, its transpose that decodes, two biases and two activations.

Shapes: B items a batch, I values in, O values out (on the encoder's way; the decoder's way is the other one round).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tiedae_cli.model.activations import ACTIVATIONS


class Dense(nn.Module):
    """A dense layer and its mirror: ``encode`` is f(W x + b), (B, I) -> (B, O); ``decode`` is g(W^T h + c), (B, O) -> (B, I).

    W is one parameter, (O, I), and the tie is in ``decode``, not in a copy; an untied layer has a second weight of the same shape.

    Args:
        inputs: I.
        outputs: O.
        activation: f, by name.
        decoder_activation: g, by name.
        tied: whether ``decode`` uses W.
    """

    def __init__(self, inputs: int, outputs: int, activation: str, decoder_activation: str, tied: bool) -> None:
        super().__init__()
        self.inputs, self.outputs = inputs, outputs
        self.activation, self.decoder_activation = activation, decoder_activation
        self.tied = tied
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        if not tied:
            self.decoder_weight = nn.Parameter(torch.empty(outputs, inputs))  # oriented as the encoder's
        self.encoder_bias = nn.Parameter(torch.zeros(outputs))
        self.decoder_bias = nn.Parameter(torch.zeros(inputs))

    @property
    def transposed(self) -> Tensor:
        """The weight, (O, I), whose transpose decodes."""
        return self.weight if self.tied else self.decoder_weight

    @torch.no_grad()
    def draw(self, generator: torch.Generator) -> None:
        """Draw the encoder's weight, as ``TiedAutoencoder`` says."""
        _draw(self.weight, self.inputs, generator)

    @torch.no_grad()
    def draw_decoder(self, generator: torch.Generator) -> None:
        """Draw the decoder's weight where it is another."""
        if not self.tied:
            _draw(self.decoder_weight, self.outputs, generator)

    def encode(self, x: Tensor) -> Tensor:
        """Return f(W x + b), (B, I) -> (B, O)."""
        return ACTIVATIONS[self.activation].function(F.linear(x, self.weight, self.encoder_bias))

    def decode(self, h: Tensor) -> Tensor:
        """Return g(W^T h + c), (B, O) -> (B, I)."""
        return ACTIVATIONS[self.decoder_activation].function(F.linear(h, self.transposed.t(), self.decoder_bias))

    def names(self, part: str) -> tuple[str, str]:
        """Return the state-dict names, below the layer's own, of the weight and the bias of ``encoder`` or ``decoder``."""
        weight = "weight" if part == "encoder" or self.tied else "decoder_weight"
        return weight, f"{part}_bias"

    def operator(self, part: str) -> tuple[str, dict[str, int]]:
        """Return the ONNX operator that applies weight and bias of ``encoder`` or ``decoder``, with its attributes."""
        return "Gemm", {"transB": int(part == "encoder")}


def _draw(weight: Tensor, fan_in: int, generator: torch.Generator) -> None:
    deviation = math.sqrt(1.3 * 2 / fan_in)
    nn.init.trunc_normal_(weight, 0.0, deviation, -2 * deviation, 2 * deviation, generator=generator)
