"""The model: a stacked autoencoder whose decoder is the transposed encoder.

Shapes: B items a batch, D values an item, H units of a hidden layer, K units of the code (the last hidden size).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tiedae_cli.config import ModelConfig
from tiedae_cli.model.activations import ACTIVATIONS


class TiedAutoencoder(nn.Module):
    """A stacked autoencoder with tied weights.

    With W_1 ... W_L of shape (H_l, H_(l-1)), H_0 = D, an activation f, and biases b_l (encoder) and c_l (decoder):

        encode:  h_l = f(W_l h_(l-1) + b_l)            l = 1 ... L; the code is h_L
        decode:  g_(l-1) = f(W_l^T g_l + c_(l-1))      l = L ... 1, g_L = h_L; the last, g_0, has the output activation

    With ``code_top_k`` only the largest units of h_L stay.

    (Hinton & Salakhutdinov 2006, "Reducing the dimensionality of data with neural networks", figure 1, before unrolling;
    Vincent et al. 2010, section 2.2.) Each W_l is one parameter: the tie is in ``decode``, not in a copy.

    Initial weights: He et al. 2015, fan-in, normal truncated at two standard deviations, with the variance 1.3 * 2 / fan_in of
    TensorFlow 1's ``variance_scaling_initializer``; biases zero.

    Args:
        input_size: D.
        config: layers and activations.
        generator: where the initial weights are drawn from; None leaves them unset (for loading).
    """

    def __init__(self, input_size: int, config: ModelConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self.sizes = (input_size, *config.hidden_sizes)
        pairs = list(zip(self.sizes[:-1], self.sizes[1:], strict=True))
        self.weights = nn.ParameterList(torch.empty(outputs, inputs) for inputs, outputs in pairs)
        untied = [] if config.tied else [torch.empty(outputs, inputs) for inputs, outputs in pairs]
        self.decoder_weights = nn.ParameterList(untied)  # in the encoder's orientation, so that decode() is the same
        self.encoder_biases = nn.ParameterList(torch.zeros(outputs) for _, outputs in pairs)
        self.decoder_biases = nn.ParameterList(torch.zeros(inputs) for inputs, _ in pairs)
        if generator is not None:
            self._draw_weights(generator)

    def _draw_weights(self, generator: torch.Generator) -> None:
        for weight in self.weights:
            outputs, inputs = weight.shape
            _draw(weight, inputs, generator)
        for weight in self.decoder_weights:
            outputs, inputs = weight.shape
            _draw(weight, outputs, generator)

    def activations(self) -> list[str]:
        """Return the activation of each of the 2L layers, encoder then decoder, by name."""
        hidden = [self.config.activation] * (len(self.weights) - 1)
        code = self.config.code_activation or self.config.activation
        return [*hidden, code, *hidden, self.config.output]

    def decoder_weight(self, layer: int) -> Tensor:
        """Return the weight, (H_l, H_(l-1)), whose transpose decoder layer ``layer`` (from the pixels' side) applies."""
        weight: Tensor = (self.weights if self.config.tied else self.decoder_weights)[layer]
        return weight

    def encode(self, x: Tensor) -> Tensor:
        """Return the codes, (B, D) -> (B, K)."""
        x = self.encode_layers(x, len(self.weights))
        return x if self.config.code_top_k is None else x * top_k_mask(x, self.config.code_top_k)

    def encode_layers(self, x: Tensor, count: int) -> Tensor:
        """Return the output of encoder layer ``count``, (B, D) -> (B, H_count)."""
        for layer, name in enumerate(self.activations()[:count]):
            x = ACTIVATIONS[name].function(
                F.linear(x, self.weights[layer], self.encoder_biases[layer])
            )  # (B, H_(l-1)) -> (B, H_l)
        return x

    def decode(self, code: Tensor) -> Tensor:
        """Return the reconstructions of codes, (B, K) -> (B, D)."""
        depth = len(self.weights)
        for layer, name in zip(reversed(range(depth)), self.activations()[depth:], strict=True):
            weight, bias = self.decoder_weight(layer), self.decoder_biases[layer]
            code = ACTIVATIONS[name].function(F.linear(code, weight.t(), bias))  # (B, H_l) -> (B, H_(l-1))
        return code

    def forward(self, x: Tensor) -> Tensor:
        """Return the reconstructions, (B, D) -> (B, D)."""
        return self.decode(self.encode(x))


def top_k_mask(code: Tensor, count: int) -> Tensor:
    """Return 1 where a code unit is among the ``count`` largest of its item, else 0: (B, K) -> (B, K) (Makhzani & Frey 2013)."""
    return torch.zeros_like(code).scatter_(1, code.topk(count, dim=1).indices, 1.0)


def _draw(weight: Tensor, fan_in: int, generator: torch.Generator) -> None:
    deviation = math.sqrt(1.3 * 2 / fan_in)
    nn.init.trunc_normal_(weight, 0.0, deviation, -2 * deviation, 2 * deviation, generator=generator)
