"""The linear path beside a network: one tied linear layer that starts as PCA, and gates that start without the network.

Shapes: B items per batch, D values per item, K numbers per code.
"""

import torch
from torch import Tensor, nn

from tiedae_cli.config.schema import Output
from tiedae_cli.model.activations import ACTIVATIONS
from tiedae_cli.model.layers import Dense
from tiedae_cli.model.pca import PrincipalComponents


class LinearPath(nn.Module):
    """A tied linear layer C, (D, K), beside a network of encoder f and decoder g, with gates a, (K,), and b, (D,).

        code = C^T x + e + a * f(x)
        x'   = output(C code + d + b * g(code))

    At a = b = 0, C the principal components, e = -C^T m and d = m, the model is PCA around the mean m (a tied linear layer is PCA at
    its best: Bourlard & Kamp 1988; Baldi & Hornik 1989). The gates are those of ReZero (Bachlechner et al. 2020).

    Args:
        inputs: D.
        outputs: K.
        output: name of the output activation.
        tied: whether the decoder uses C; else it has a weight of its own.
    """

    def __init__(self, inputs: int, outputs: int, output: Output, tied: bool) -> None:
        super().__init__()
        self.layer = Dense(inputs, outputs, "linear", "linear", tied)  # its weight is C^T
        self.output = output
        self.code_gate = nn.Parameter(torch.zeros(outputs))
        self.output_gate = nn.Parameter(torch.zeros(inputs))

    def encode(self, x: Tensor, encoded: Tensor) -> Tensor:
        """Return the codes from items, (B, D), and f(x), (B, K)."""
        return self.layer.encode(x) + self.code_gate * encoded

    def decode(self, code: Tensor, decoded: Tensor) -> Tensor:
        """Return the reconstructions, (B, D), from codes, (B, K), and g(code), (B, D)."""
        return ACTIVATIONS[self.output].function(self.layer.decode(code) + self.output_gate * decoded)


@torch.no_grad()
def set_to_pca(layer: Dense, fitted: PrincipalComponents) -> None:
    """Make a linear layer, tied or not, compute PCA; outputs beyond the number of components are 0."""
    weight, mean = torch.zeros(layer.outputs, layer.inputs, dtype=torch.float64), fitted.mean  # (K, D), (D,)
    weight[: fitted.components.shape[1]] = fitted.components.t()
    layer.weight.copy_(weight)
    layer.transposed.copy_(weight)
    layer.encoder_bias.copy_(-(weight @ mean))
    layer.decoder_bias.copy_(mean)
