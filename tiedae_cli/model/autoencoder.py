"""The model: a stacked autoencoder whose decoder is the transposed encoder.

Shapes: B items per batch, D values per item, H units of a hidden layer, K units of the code (the last hidden size).
"""

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from tiedae_cli.config import ModelConfig
from tiedae_cli.errors import ConfigError
from tiedae_cli.model.layers import Dense, Layer, build_layers
from tiedae_cli.model.linear_path import LinearPath


class TiedAutoencoder(nn.Module):
    """A stacked autoencoder with tied weights.

    With linear maps W_1 ... W_L, (H_l, H_(l-1)), H_0 = D, dense or convolutions, an activation f, and biases b_l (encoder) and c_l
    (decoder):

        encode:  h_l = f(W_l h_(l-1) + b_l)            l = 1 ... L; the code is h_L
        decode:  g_(l-1) = f(W_l^T g_l + c_(l-1))      l = L ... 1, g_L = h_L; the last, g_0, has the output activation

    With ``code_top_k``, only the largest units of h_L are kept. With a linear path, code and reconstruction are those of ``LinearPath``.

    (Hinton & Salakhutdinov 2006, "Reducing the dimensionality of data with neural networks", figure 1, before unrolling;
    Vincent et al. 2010, section 2.2.) Each W_l is one parameter: ``decode`` uses it transposed, without a copy.

    Initial weights: He et al. 2015, fan-in, normal truncated at two standard deviations, with the variance 1.3 * 2 / fan_in of
    TensorFlow 1's ``variance_scaling_initializer``; biases zero.

    Args:
        layers: the encoder's layers, from the item to the code.
        code_top_k: number of code units to keep per item; None keeps all.
        path: linear path beside the layers (see ``LinearPath``); None for none.
    """

    def __init__(self, layers: Sequence[Layer], code_top_k: int | None = None, path: LinearPath | None = None) -> None:
        super().__init__()
        self.layers = cast(Sequence[Layer], nn.ModuleList(layers))
        self.code_top_k = code_top_k
        self.path = path

    @property
    def sizes(self) -> tuple[int, ...]:
        """D and the size of each layer's output, the last K."""
        return (self.layers[0].inputs, *(layer.outputs for layer in self.layers))

    @property
    def shapes(self) -> str:
        """The shapes of an item on its way through the encoder, for example ``3x32x32-48x16x16-128``."""
        shapes = (self.layers[0].input_shape, *(layer.output_shape for layer in self.layers))
        return "-".join("x".join(map(str, shape)) for shape in shapes)

    @property
    def round_trip(self) -> str:
        """The shapes of an item through encoder and decoder, for example ``784-300-150-300-784``."""
        shapes = self.shapes.split("-")
        return "-".join((*shapes, *reversed(shapes[:-1])))

    @property
    def tied(self) -> bool:
        """Whether the decoder uses the encoder's weights."""
        return all(layer.tied for layer in self.layers)

    @property
    def weighted(self) -> list[Layer]:
        """The layers, and that of the linear path: all that have a weight."""
        return [*self.layers, *([self.path.layer] if self.path is not None else [])]

    @property
    def training_work(self) -> float:
        """FLOP of a training step per item: two halves, each with a product forward and two for the gradients."""
        return 12.0 * sum(layer.multiplications for layer in self.weighted)

    @property
    def linear_layer(self) -> Dense | None:
        """The layer that starts as PCA if ``model.linear_path`` is set: that of the path, or the only one."""
        if self.path is not None:
            return self.path.layer
        first = self.layers[0]
        linear = isinstance(first, Dense) and first.activation == "linear" and len(self.layers) == 1
        return first if linear and isinstance(first, Dense) else None

    def path_names(self, part: str) -> tuple[str, ...]:
        """Return the state-dict names of the linear path's ``encoder`` or ``decoder``; none without a path."""
        if self.path is None:
            return ()
        gate = "code_gate" if part == "encoder" else "output_gate"
        return (*(f"path.layer.{name}" for name in self.path.layer.names(part)), f"path.{gate}")

    def features(self, item_shape: tuple[int, ...]) -> Tensor:
        """Return the weights of each output of the layer that reads the items (see ``Layer.features``); the path's, if there is one."""
        return (self.layers[0] if self.path is None else self.path.layer).features(item_shape)

    def encode(self, x: Tensor) -> Tensor:
        """Return the codes, (B, D) -> (B, K)."""
        encoded = self.encode_layers(x, len(self.layers))
        x = encoded if self.path is None else self.path.encode(x, encoded)
        return x if self.code_top_k is None else x * top_k_mask(x, self.code_top_k)

    def encode_layers(self, x: Tensor, count: int) -> Tensor:
        """Return the output of encoder layer ``count``, (B, D) -> (B, H_count)."""
        for layer in self.layers[:count]:
            x = layer.encode(x)  # (B, H_(l-1)) -> (B, H_l)
        return x

    def decode(self, code: Tensor) -> Tensor:
        """Return the reconstructions of codes, (B, K) -> (B, D)."""
        decoded = code
        for layer in reversed(self.layers):
            decoded = layer.decode(decoded)  # (B, H_l) -> (B, H_(l-1))
        return decoded if self.path is None else self.path.decode(code, decoded)

    def forward(self, x: Tensor) -> Tensor:
        """Return the reconstructions, (B, D) -> (B, D)."""
        return self.decode(self.encode(x))


def build_autoencoder(
    shape: tuple[int, ...] | int, config: ModelConfig, generator: torch.Generator | None = None
) -> TiedAutoencoder:
    """Return the model that a config describes.

    Args:
        shape: shape of an item, (C, H, W); D is enough for dense layers.
        config: layers and activations.
        generator: draws the initial weights; None leaves them unset (for loading).

    Raises:
        ConfigError: The code is smaller than ``code_top_k``.
    """
    layers = build_layers((shape,) if isinstance(shape, int) else shape, config)
    if config.code_top_k and config.code_top_k > layers[-1].outputs:
        raise ConfigError(
            f"model.code_top_k: must be at most {layers[-1].outputs:,}, the units of the code; found {config.code_top_k:,}"
        )
    path = None
    if config.path_beside_network:
        path = LinearPath(layers[0].inputs, layers[-1].outputs, config.output, config.tied)
    model = TiedAutoencoder(layers, config.code_top_k, path)
    if generator is not None:
        for layer in model.weighted:
            layer.draw(generator)
        for layer in model.weighted:
            layer.draw_decoder(generator)
    return model


def untied_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict of an untied model that computes the same as a tied one."""
    copies = {name: weight.clone() for name, weight in weights.items() if name.endswith(".weight")}
    return {**weights, **{name.replace(".weight", ".decoder_weight"): copy for name, copy in copies.items()}}


def top_k_mask(code: Tensor, count: int) -> Tensor:
    """Return 1 where a code unit is among the ``count`` largest of its item, else 0: (B, ...) -> (B, ...) (Makhzani & Frey 2013)."""
    rows = code.flatten(1)  # (B, K)
    return torch.zeros_like(rows).scatter_(1, rows.topk(count, dim=1).indices, 1.0).view(code.shape)
